"""`benchmark models`: networks from fit to the emulated board, crashes and time limits as rows, and the page that is in docs."""

import json
import pathlib
import sys

import numpy as np
import pytest

from keras_tinytrain.benchmark import model_steps, models
from keras_tinytrain.benchmark.models_page import STEPS, page
from keras_tinytrain.benchmark.zoo import NETWORKS, known_networks, network
from keras_tinytrain.benchmark.zoo.files import FILES
from keras_tinytrain.cli import main

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


def test_two_networks_are_run_and_not_run_again(tmp_path, capsys):
    out, names = tmp_path / "models.md", ["micro_speech", "unet"]
    command = ["benchmark", "models", "--out", str(out), "--only", *names]
    assert main(command) == 0
    rows = json.loads(out.with_suffix(".json").read_text())
    assert list(rows) == names and page(rows) == out.read_text()
    steps = rows["micro_speech"]["steps"]
    assert all(steps[step]["kind"] in ("works", "not run") for step in STEPS), steps
    assert [outcome["kind"] for outcome in rows["unet"]["steps"].values()] == ["works", "refused"]
    assert "The output of model 'unet' is a map" in rows["unet"]["steps"]["plan"]["text"]
    capsys.readouterr()


def test_rows_that_are_there_stay(tmp_path, monkeypatch, capsys):
    run = []
    monkeypatch.setattr(models, "run_network", lambda name, *_, **__: run.append(name) or _row("works"))
    monkeypatch.setattr(models, "known_networks", lambda files: dict.fromkeys(("vgg", "resnet8")))
    command = ["benchmark", "models", "--out", str(tmp_path / "models.md")]
    assert main(command) == main(command) == 0 and run == ["vgg", "resnet8"]
    assert main([*command, "--only", "vgg"]) == 0 and run[2:] == ["vgg"]
    assert main([*command, "--only", "vgh"]) == 2 and "There is no network 'vgh'. Known are: " in capsys.readouterr().err


def test_a_crash_and_a_time_limit_are_rows(tmp_path, monkeypatch):
    python = tmp_path / "python"
    for script, end in (("kill -SEGV $$", "crashed: SIGSEGV"), ("sleep 9", "took more than 1 s"), ("exit 3", "ended with 3")):
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        outcome = models.run_network("vgg", timeout_s=1)["steps"]["the process"]
        assert outcome["kind"] == "fault" and outcome["text"].startswith(end)


def test_a_fault_is_told_and_ends_with_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(models, "run_network", lambda *_, **__: _row("fault", "a | b\nc"))
    assert main(["benchmark", "models", "--out", str(tmp_path / "models.md"), "--only", "vgg"]) == 1
    text = (tmp_path / "models.md").read_text()
    assert "## Faults\n\n- `vgg`, fit: a / b c\n" in text and "| `vgg` | 8 | fault | - | - | - | - |" in text
    capsys.readouterr()


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_name_their_source(name):
    assert "\n" not in network(name).__doc__ and not network(name).__doc__.endswith(".")


def test_samples_show_each_class_twice():
    model = network("edge_impulse_flat")()
    x, y = model_steps.labelled_samples(model)
    assert x.shape == (8, 33) and x.dtype == np.float32 and list(y) == [0, 1, 2, 3] * 2


def test_only_planned_layers_may_change():
    class Chosen:
        layers = (type("Layer", (), {"name": "a.pointwise"}),)

    before = {"net/a/kernel": np.zeros(2), "net/b/kernel": np.zeros(2)}
    model_steps._check_only_planned(Chosen, before, {**before, "net/a/kernel": np.ones(2)})
    with pytest.raises(model_steps.Fault, match="net/b/kernel"):
        model_steps._check_only_planned(Chosen, before, {**before, "net/b/kernel": np.ones(2)})
    with pytest.raises(model_steps.Fault, match="nothing"):
        model_steps._check_only_planned(Chosen, before, before)


def test_the_page_is_what_was_run():
    rows = json.loads((DOCS / "models.json").read_text())
    text = (DOCS / "models.md").read_text()
    assert text == page(rows)
    table = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| `")]
    assert {len(cells) for cells in table} == {2 + len(STEPS)}
    assert {cells[0].strip(" `") for cells in table} == set(rows)
    assert set(rows) <= {*known_networks(), *FILES}  # a network that was not run has no row


def _row(kind, text=""):
    return {"about": "A net", "input": "8", "steps": {"fit": {"kind": kind, "text": text}}}
