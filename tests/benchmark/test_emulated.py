"""`benchmark emulated` and `benchmark tflm`: measured where TensorFlow Lite Micro is linked, estimated where it is not."""

import json
import types

import pytest

from keras_tinytrain.benchmark import emulated, tflm
from keras_tinytrain.cli import main
from tests.tflm_stand_in import stand_in
from tests.tflm_stand_in.task import few_operators_net


@pytest.mark.parametrize("is_estimated, kind", [(False, ""), (True, "_estimate")])
def test_instructions_of_a_pass_are_the_tasks(is_estimated, kind):
    """Four samples, two iterations: prototypes and gradients in each, and prototypes at the end."""
    parts = {"frozen_forward": 4000, "trainable_forward": 20 * 500, "backward": 8 * 300, "update": 8 * 20, "selection": 0}
    calls = {"frozen_forward": 4, "trainable_forward": 20}
    task = types.SimpleNamespace(instructions=parts, calls=calls, forward_is_estimated=is_estimated)
    figures = emulated._per_sample(task, num_samples=4, iterations=2)
    assert (figures[f"frozen_forward{kind}"], figures[f"trainable_forward{kind}"]) == (1000, 500)
    passes = 2 * 4 * emulated.ITERATIONS + 4
    assert figures["task"] == 4 * 1000 + passes * 500 + 4 * emulated.ITERATIONS * 320


@pytest.fixture
def library(tmp_path, monkeypatch):
    stand_in.name(monkeypatch, stand_in.build(tmp_path, scratch=True, static_memory=False))


def test_tflm_shows_promised_and_used_bytes(library, monkeypatch, capsys):
    monkeypatch.setattr(tflm, "find_backbone", lambda name: lambda weights: few_operators_net())
    assert main(["benchmark", "tflm", "--networks", "nanonet", "--iterations", "2", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["runs"], row["same_as_host"]) == ("yes", True)
    promised, measured = row["promised"], row["measured"]
    assert set(promised) == set(measured) == {"frozen_arena", "trainable_arena", "flash", "sram"}
    assert all(0 < measured[part] <= promised[part] for part in promised)
    assert 0 < row["stack"] < 4096


def test_tflm_says_which_operator_is_missing(library, capsys):
    assert main(["benchmark", "tflm", "--networks", "gesturenet", "--iterations", "1"]) == 1
    assert "has no operator Add: take a newer one" in capsys.readouterr().out


def test_tflm_must_be_named(monkeypatch, capsys):
    monkeypatch.delenv("TFLM_LIBRARY", raising=False)
    assert main(["benchmark", "tflm"]) == 2
    assert "name it in TFLM_INCLUDE_DIRS and TFLM_LIBRARY" in capsys.readouterr().err
