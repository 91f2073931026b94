"""Wrong input gets one sentence in the words of the command line, and nothing is written."""

import re

import pytest

from keras_tinytrain import Plan
from keras_tinytrain.cli import main

EXPORT = ["export", "model.keras", "--plan", "plan.json", "--calibration", "task.npz", "--out", "b"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "missing.keras", "--samples", "task.npz"], "missing.keras is not a model that Keras can load"),
        (["plan", "model.keras", "--samples", "nowhere.npz"], "There are no samples at nowhere.npz"),
        (["plan", "model.keras", "--samples", "model.keras"], "neither an .npz file nor a folder|needs arrays x"),
        (["plan", "model.keras", "--samples", "task.npz", "--board", "toaster"], "Unknown board 'toaster'"),
        (
            ["plan", "model.keras", "--samples", "task.npz", "--kinds", "dense"],
            "--kinds expects one of 'auto', 'pointwise', 'all'",
        ),
        (
            ["plan", "model.keras", "--samples", "task.npz", "--layers", "b9"],
            "no layer 'b9'. Layers with channels: .*'b3_conv'",
        ),
        (["plan", "model.keras", "--samples", "task.npz", "--memory", "lots"], "--memory expects a positive number of bytes"),
        (["plan", "model.keras", "--samples", "task.npz", "--compute", "-1"], "--compute expects a fraction"),
        (
            ["plan", "model.keras", "--samples", "task.npz", "--maps", "x", "--head", "softmax", "--reject-unknown", "0.1"],
            "--reject-unknown 0.1 goes with --head ridge. Received: --head softmax",
        ),
        (
            [*EXPORT, "--time", "9s", "--iterations", "3"],
            r"not both. Received: --iterations 3 and --time 9.0$",
        ),
        (
            ["export", "model.keras", "--plan", "nowhere.json", "--calibration", "task.npz", "--out", "b"],
            "There is no file nowhere.json.",
        ),
        (
            ["plan", "model.keras", "--samples", "task.npz", "--memory", "1KB"],
            r"The smallest that would do is --memory \d+B --compute \d+\.",
        ),
        (["plan", "model.keras", "--samples", "task.npz", "--view", "1"], r"--view expects .* Received: \[\(1,\)\]"),
        (
            [*EXPORT, "--view", "1", "0", "7"],
            r"--view expects .* Received: \[\(1, 0, 7\)\]",
        ),
        (["export", "model.keras", "--plan", "task.npz", "--calibration", "task.npz", "--out", "b"], "is not a plan"),
        (
            ["export", "model.keras", "--plan", "plan.json", "--calibration", "task.npz", "--out", "b", "--board", "toaster"],
            "Unknown board 'toaster'",
        ),
    ],
)
def test_wrong_input_gets_one_sentence_and_nothing_is_written(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    (folder / "plan.json").write_text(Plan.from_json(PLAN).to_json())
    before = sorted(folder.iterdir())
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("keras-tinytrain: ")
    assert re.search(message, captured.err), captured.err
    assert sorted(folder.iterdir()) == before


PLAN = (
    '{"keras_tinytrain_plan": 1, "layers": [{"name": "b2_project", "channels": [0, 1]}], "budget": null, "strategy": "manual"}'
)
