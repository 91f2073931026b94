"""`benchmark accuracy`: the same tasks for every method, nothing run twice, intervals and paired differences by hand."""

import csv

import numpy as np
import pytest

from keras_tinytrain.benchmark.accuracy import summary_text
from keras_tinytrain.cli import main

METHODS = ["none", "tinytrain"]


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """The command on a small made-up domain of coloured squares, an untrained backbone with weights from a file."""
    from keras_tinytrain.backbones import MCUNet

    folder = tmp_path_factory.mktemp("accuracy")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 22)
    images = rng.integers(0, 80, (len(labels), 16, 16, 3)).astype(np.uint8)
    images[np.arange(len(labels)), :, :, labels % 3] += (60 + 20 * labels).astype(np.uint8)[:, None, None]
    np.savez(folder / "squares.npz", images=images, labels=labels)
    model = MCUNet(weights=None)
    arrays = {f"{layer.name}.kernel_f32": np.array(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")}
    arrays |= {f"{layer.name}.bias_f32": np.array(layer.bias) for layer in model.layers if hasattr(layer, "kernel")}
    np.savez(folder / "weights.npz", **arrays)
    options = ["--weights", str(folder / "weights.npz"), "--domains", str(folder / "squares.npz")]
    return ["benchmark", "accuracy", *options, "--methods", *METHODS, "--out", str(folder / "results.csv")], folder


def test_results_are_kept_and_not_run_again(command, capsys):
    arguments, folder = command
    assert main([*arguments, "--episodes", "1"]) == 0
    first = (folder / "results.csv").read_text()
    assert main([*arguments, "--episodes", "1"]) == 0
    assert (folder / "results.csv").read_text() == first
    rows = list(csv.DictReader(first.splitlines()))
    assert [row["method"] for row in rows] == METHODS
    assert rows[0]["weights"] == "0" and int(rows[1]["weights"]) > 0 and int(rows[1]["backward_macs"]) <= 6.51e6
    assert "minus none" in capsys.readouterr().out


def test_differences_are_paired():
    values = {("a", 0): (50, 60), ("a", 1): (70, 76), ("b", 0): (20, 31)}
    rows = [
        {"domain": domain, "episode": episode, "method": method, "accuracy": value / 100, "weights": 10}
        for (domain, episode), pair in values.items()
        for method, value in zip(METHODS, pair)
    ]
    line = summary_text(rows, METHODS).splitlines()[-1]
    half = 1.96 * np.std([10, 6, 11], ddof=1) / np.sqrt(3)
    assert line.split()[:4] == ["tinytrain", "10", "68.0", "31.0"] and line.endswith(f"9.00 +- {half:.2f}")


@pytest.mark.parametrize(
    ("change", "message"),
    [(["--methods", "none", "magic"], "Known methods: none, last_layer"), (["--backbone", "resnet"], "backbones: mcunet")],
)
def test_unknown_names_are_listed(command, capsys, change, message):
    assert main([*command[0], *change]) == 2
    assert message in capsys.readouterr().err
