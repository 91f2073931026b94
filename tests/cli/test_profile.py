"""`profile`: one page on boards for a model, with a task's samples or without; what it promises is what an export promises."""

import json

import keras
import numpy as np
import pytest
from models import images, labelled_images, pooled_net, tiny_net

import keras_tinytrain
from keras_tinytrain import Plan
from keras_tinytrain.cli import main
from keras_tinytrain.export import export_tflm

SMALL_BOARD = 'name = "small"\ncpu = "Cortex-M0"\nclock_hz = 48_000_000\nsram_bytes = 1_024\nflash_bytes = 1_000_000\n'


@pytest.fixture
def small_board(tmp_path):
    (tmp_path / "small.toml").write_text(SMALL_BOARD)
    return str(tmp_path / "small.toml")


@pytest.mark.parametrize("make", [tiny_net, pooled_net])
def test_page_promises_what_an_export_promises(make, tmp_path, small_board):
    model = make()
    found = keras_tinytrain.profile(model, boards=["nano33ble", small_board])
    fits, lacks = found.boards
    bundle = export_tflm(model, fits.plan, calibration=images(model, 5), out=tmp_path / "net")
    assert bundle.promised_bytes["sram"] == fits.layout.sram
    assert lacks.plan is None and lacks.reason
    page = str(found)
    assert fits.layout.in_short in " ".join(page.split()) and "Nothing can be trained here." in page
    assert max(map(len, page.splitlines())) <= 90 and len(page.splitlines()) < 30
    assert all(name in page for name in (layer.name for layer in fits.plan.layers))


def test_samples_choose_the_layers_of_the_page():
    model = tiny_net(classes=3)
    x, y = labelled_images(model, per_class=2, classes=3)
    found = keras_tinytrain.profile(model, x, y, boards=["nano33ble"], compute=0.4, head="softmax")
    (board,) = found.boards
    assert board.plan.strategy == "fisher" and board.plan.budget.compute == 0.4
    assert (found.device.max_samples, found.device.num_classes, found.device.head) == (6, 3, "softmax")
    assert "no samples" not in str(found)
    with pytest.raises(ValueError, match="only one of x and y"):
        keras_tinytrain.profile(model, x)


@pytest.mark.parametrize(
    "head, told", [("auto", "A closed-form head answers, or the"), ("prototypes", "The prototypes answer.")]
)
def test_page_says_what_plan_says(tmp_path, capsys, head, told):
    model = tiny_net()
    model.save(tmp_path / "net.keras")
    x, y = labelled_images(model, per_class=2, classes=3)
    np.savez(tmp_path / "task.npz", x=x, y=y)
    options = [str(tmp_path / "net.keras"), "--samples", str(tmp_path / "task.npz"), "--compute", "0.4", "--head", head]
    assert main(["plan", *options, "--out", str(tmp_path / "plan.json")]) == 0
    shown = capsys.readouterr().out
    (board,) = keras_tinytrain.profile(model, x, y, boards=["nano33ble"], compute=0.4, head=head).boards
    assert board.plan.layers == Plan.load(tmp_path / "plan.json").layers and board.layout.in_short in shown
    assert main(["profile", *options, "--boards", "nano33ble"]) == 0
    assert told in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("units, activation, ways", [(4, "softmax", 4), (1, "sigmoid", 2), (7, None, 5)])
def test_classes_without_samples_are_those_of_the_output(units, activation, ways):
    layers = [keras.Input((12, 12, 1)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(units, activation=activation)])
    found = keras_tinytrain.profile(model, boards=["rp2040"])
    assert found.device.num_classes == ways and found.boards[0].plan.num_channels


def test_command_prints_the_page_or_its_values(tmp_path, small_board, capsys):
    model = tiny_net(classes=3)
    model.save(tmp_path / "model.keras")
    x, y = labelled_images(model, per_class=2, classes=3)
    np.savez(tmp_path / "task.npz", x=x, y=y)
    command = ["profile", str(tmp_path / "model.keras"), "--boards", "nano33ble", small_board, "--compute", "0.4"]
    assert main(command) == 0
    assert "nano33ble, Cortex-M4F at 64 MHz" in capsys.readouterr().out
    assert main([*command, "--samples", str(tmp_path / "task.npz"), "--json"]) == 0
    boards = json.loads(capsys.readouterr().out)["boards"]
    assert boards["nano33ble"]["fits"] and boards["nano33ble"]["sram"]["total"] > 0 and not boards["small"]["fits"]
    assert main([*command[:3], "nowhere"]) == 2 and "Unknown board 'nowhere'" in capsys.readouterr().err
