"""From plan to board: the commands agree on samples, settings, classes and bytes; what an error advises succeeds at once."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
from models import labelled_images, tiny_net

from keras_tinytrain import DeviceSettings, Plan
from keras_tinytrain._text import kilobytes
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.cli import emulated_task, main
from keras_tinytrain.cli.samples import spread
from keras_tinytrain.export import Bundle, export_tflm
from keras_tinytrain.export.settings import FLAGS
from keras_tinytrain.run import HostRuntime, serial_port

CLASSES = ("cat", "dog", "owl")
SMALL = 'name = "small"\ncpu = "any"\nclock_hz = 1\nsram_bytes = {}\nflash_bytes = 1_000_000\nflash_page_bytes = 4096\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """model.keras, a classifier of three classes, and task.npz with twelve named samples."""
    folder = tmp_path_factory.mktemp("route")
    model = tiny_net(classes=3)
    model.save(folder / "model.keras")
    x, y = labelled_images(model, per_class=4, classes=3)
    np.savez(folder / "task.npz", x=x, y=y, class_names=np.array(CLASSES))
    return folder


@pytest.fixture
def commands(folder, tmp_path):
    """(plan, export): run a command on the folder's model with more options; the exit code."""
    model, task, plan = str(folder / "model.keras"), str(folder / "task.npz"), str(tmp_path / "plan.json")
    choose = ["plan", model, "--samples", task, "--compute", "0.5", "--out", plan]
    write = ["export", model, "--plan", plan, "--calibration", task, "--out", str(tmp_path / "bundle"), "--overwrite"]
    return (lambda *options: main([*choose, *options])), (lambda *options: main([*write, *options]))


def test_the_plan_says_all_that_an_export_needs(commands, tmp_path, capsys):
    plan, export = commands
    options = [
        "--features",
        "flash",
        "--optimizer",
        "momentum",
        "--trained-weights",
        "int8",
        "--view",
        "0",
        "1",
        "--offset",
        ".5",
    ]
    assert plan(*options) == 0
    said = capsys.readouterr().out
    settings = DeviceSettings("nano33ble", 12, 3, CLASSES, "logits", "momentum", "int8", "flash", ((0, 1, False),), offset=0.5)
    assert Plan.load(tmp_path / "plan.json").device == settings
    assert export() == 0 and capsys.readouterr().err == ""
    bundle = Bundle.load(tmp_path / "bundle")
    training = bundle.manifest["training"]
    assert bundle.plan.device == settings and bundle.class_names == CLASSES and bundle.sample_values == (1.0, 0.5)
    assert (training["max_samples"], training["num_classes"], bundle.manifest["head"]) == (12, 3, "softmax")
    assert (training["optimizer"], training["weights"]) == ("momentum", "int8") and bundle.manifest["views"] == [[0, 1, False]]
    assert f"takes {kilobytes(bundle.promised_bytes['sram']['total'])} of the 212 KB" in " ".join(said.split())


def test_an_option_of_export_takes_the_place_of_the_plans_and_says_so(commands, tmp_path, capsys):
    plan, export = commands
    assert plan("--max-samples", "9") == 0 and export("--max-samples", "7", "--features", "ram") == 0
    assert capsys.readouterr().err == "keras-tinytrain: --max-samples 7 in place of the plan's 9.\n"
    assert Bundle.load(tmp_path / "bundle").plan.device.max_samples == 7


def test_in_python_too_an_export_takes_its_settings_from_the_plan(folder, tmp_path):
    settings = DeviceSettings("rp2040", 8, 3, CLASSES, "softmax", "sgd", views=((1, 0, False),))
    plan = dataclasses.replace(Plan.from_json('{"keras_tinytrain_plan": 1, "layers": [{"name": "logits", "channels": [0, 1]}], '
                                              '"budget": null, "strategy": "manual"}'), device=settings)  # fmt: skip
    model, x = keras.models.load_model(folder / "model.keras"), np.load(folder / "task.npz")["x"]
    bundle = export_tflm(model, plan, calibration=x, out=tmp_path / "bundle", views=())
    assert bundle.plan.device == dataclasses.replace(settings, views=())
    assert bundle.manifest["board"]["name"] == "rp2040" and bundle.manifest["training"]["optimizer"] == "sgd"
    host = HostRuntime(bundle)
    host.add_samples(x[::2], np.arange(12)[::2] // 4)
    host.train()
    assert set(host.predict_names(x)) <= set(CLASSES)


def test_the_memory_of_a_plan_is_what_its_export_promises(commands, tmp_path, monkeypatch, capsys):
    """An estimate that falls short by a kilobyte does not lead to a plan that does not fit."""
    estimate = DeviceAccounting.memory_bytes
    monkeypatch.setattr(DeviceAccounting, "memory_bytes", lambda *arguments: estimate(*arguments) - 1024)
    plan, export = commands
    assert plan("--memory", "12KB") == 0 and export("--json") == 0
    promised = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert promised["sram"]["total"] <= 12 * 1024


def test_a_plan_for_a_board_leaves_out_what_the_device_cannot_train(tmp_path, capsys):
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(8, 1, activation="relu", name="before")(keras.layers.Conv2D(8, 3, strides=2)(image))
    x = keras.layers.Conv2D(8, 1, activation="relu", name="after")(keras.layers.Cropping2D(1, name="smaller")(x))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    model.save(tmp_path / "model.keras")
    x, y = labelled_images(model, per_class=3, classes=2)
    np.savez(tmp_path / "task.npz", x=x, y=y)
    command = ["plan", str(tmp_path / "model.keras"), "--samples", str(tmp_path / "task.npz"), "--compute", "1", "--json"]
    assert main(command) == 0
    on_board = [layer.name for layer in Plan.from_json(capsys.readouterr().out).layers]
    assert main([*command, "--board", "none"]) == 0
    in_keras = Plan.from_json(capsys.readouterr().out)
    assert on_board == ["after"] and "before" in [layer.name for layer in in_keras.layers] and in_keras.device is None


def advised(message):
    """The options of each remedy that an error names."""
    return [options.split() for options in re.findall(r"`(--[^`]*)` \([0-9,]+ B\)", message)]


@pytest.mark.slow
def test_what_an_export_that_does_not_fit_advises_succeeds(commands, tmp_path, capsys):
    plan, export = commands
    assert plan("--max-samples", "200", "--board", "rp2040") == 0 and export("--json") == 0
    sram = json.loads(capsys.readouterr().out.splitlines()[-1])["sram"]
    (tmp_path / "small.toml").write_text(SMALL.format(sram["total"] - 64))
    small = ["--board", str(tmp_path / "small.toml")]
    assert export(*small) == 2
    said = capsys.readouterr().err
    remedies = advised(said)
    assert ["--features", "flash"] in remedies and any(options[0] == "--max-samples" for options in remedies)
    for options in remedies:
        assert export(*small, *options) == 0, options
    again = re.search(r"`keras-tinytrain plan (--[^`]*)`", said)[1].split()
    assert plan(*again) == 0 and export() == 0


@pytest.mark.slow
def test_what_a_plan_that_does_not_fit_advises_succeeds(commands, tmp_path, capsys):
    plan, export = commands
    (tmp_path / "small.toml").write_text(SMALL.format(7_000))
    crowded = ["--board", str(tmp_path / "small.toml"), "--max-samples", "300"]
    assert plan(*crowded) == 2
    remedies = advised(capsys.readouterr().err)
    assert remedies
    for options in remedies:
        assert plan(*crowded, *options) == 0 and export() == 0, options


def test_more_memory_than_the_board_has_is_refused_with_both_numbers(commands, capsys):
    plan, _ = commands
    assert plan("--memory", "1MB") == 2
    assert "--memory 1MB is 1,048,576 B, and board 'nano33ble' has 217,088 B" in capsys.readouterr().err


@pytest.mark.parametrize("shape", [(33,), (9, 5)], ids=["features", "windows"])
def test_emulate_takes_the_file_that_plan_and_export_took(tmp_path, monkeypatch, shape):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Flatten(), keras.layers.Dense(20, activation="relu"), keras.layers.Dense(4, activation="softmax")]
    keras.Sequential([keras.Input(shape), *layers]).save(tmp_path / "model.keras")
    x = np.random.default_rng(0).random((24, *shape), np.float32)
    np.savez(tmp_path / "task.npz", x=x, y=np.arange(24) % 4)
    learned = []

    def emulate(bundle, x, y, **options):
        learned.append((x, y))
        raise RuntimeError("the emulator is not asked")

    monkeypatch.setattr(emulated_task, "emulate_task", emulate)
    model, task, plan, bundle = (str(tmp_path / name) for name in ("model.keras", "task.npz", "plan.json", "bundle"))
    assert main(["plan", model, "--samples", task, "--out", plan, "--compute", "0.9", "--max-samples", "8"]) == 0
    assert main(["export", model, "--plan", plan, "--calibration", task, "--out", bundle]) == 0
    assert main(["emulate", bundle, "--samples", task, "--queries", task]) == 2
    (kept, labels) = learned[0]
    np.testing.assert_array_equal(kept.reshape(-1, *shape), x[:8])
    np.testing.assert_array_equal(labels, np.arange(8) % 4)


def test_a_device_keeps_as_many_samples_of_each_class_as_it_can():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    assert spread(labels, 4).tolist() == [0, 1, 4, 6] and spread(labels, 6).tolist() == [0, 1, 2, 4, 5, 6]
    assert spread(labels, 100).tolist() == list(range(7))


class Board:
    """A board at a port, that answers every sample with class 1."""

    def __init__(self, port):
        self.samples = 5

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def status(self):
        sizes = {"height": 12, "width": 12, "channels": 2, "scale": 0.02, "zero_point": 0, "classes": 3, "max_samples": 12}
        return {**sizes, "network": "net", "samples": self.samples, "records": 0, "plan": {"logits": 3}}

    def predict(self, x):
        return np.ones(len(x), int)

    def save(self):
        pass

    def reset(self):
        self.samples = 0


def test_the_device_command_says_classes_by_name_and_what_it_did(commands, folder, tmp_path, monkeypatch, capsys):
    plan, export = commands
    assert plan() == 0 and export() == 0
    monkeypatch.setattr(serial_port, "Device", Board)
    capsys.readouterr()
    device = ["device", "--port", "p", "--bundle", str(tmp_path / "bundle")]
    assert main([*device, "predict", "--samples", str(folder / "task.npz")]) == 0
    assert capsys.readouterr().out == f"{' '.join(['dog'] * 12)}\naccuracy 0.333\n"
    assert main([*device, "save"]) == 0
    assert capsys.readouterr().out == "Saved in the board's flash: what net learned. Trained channels: logits 3.\n"
    assert main([*device, "reset"]) == 0 and "net answers as it was exported, and has 0 samples" in capsys.readouterr().out


@pytest.mark.parametrize(("end", "said"), [(EOFError, "standard input is at its end"), (KeyboardInterrupt, "")])
def test_a_waiting_board_ends_with_its_standard_input(monkeypatch, capsys, end, said):
    def no_input(_):
        raise end

    monkeypatch.setattr("builtins.input", no_input)
    emulated_task._wait_for_the_user()
    assert said in capsys.readouterr().err


def test_every_flag_of_the_settings_is_an_option_of_plan_and_export(capsys):
    for command in ("plan", "export"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = capsys.readouterr().out
        assert all(flag in shown for flag in FLAGS.values())
