"""`benchmark step` on a small net: the table it prints, and memory as TensorFlow's allocator counts it."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from models import small_net

from keras_tinytrain import LayerPlan, Plan
from keras_tinytrain.benchmark import step
from keras_tinytrain.cli import main

PLAN = Plan((LayerPlan("project", (1, 4)),))


def small_classifier():
    """In the place of MCUNet; for classes 0..2 as it has no more."""
    step.IMAGE_SIZE, step.NUM_CLASSES = 8, 3
    model = small_net()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss, jit_compile=False)
    return model, PLAN


@pytest.fixture
def small(monkeypatch):
    for name in ("classifier", "IMAGE_SIZE", "NUM_CLASSES"):
        monkeypatch.setattr(step, name, getattr(step, name))
    monkeypatch.setattr(step, "classifier", small_classifier)


def test_methods_stand_side_by_side(small, monkeypatch, capsys):
    monkeypatch.setattr(step, "_peak_bytes_elsewhere", {"full": 400, "sparse": 100, "cached": 50}.get)
    assert main(["benchmark", "step", "--repeats", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["plan"] == {"project": 2}
    sizes = {name: of["optimizer_state"] for name, of in result["methods"].items()}
    chosen = 2 * (6 + 1)
    weights = sum(int(np.prod(variable.shape)) for variable in small_net().trainable_variables)
    assert sizes == {"full": 2 * weights, "sparse": 2 * chosen, "cached": 2 * chosen}
    assert all(of["seconds"] > 0 for of in result["methods"].values())
    assert main(["benchmark", "step", "--repeats", "1"]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["0.25", "28"] in [row[-2:] for row in table]


def test_the_cached_step_is_the_sparse_step(small):
    sparse, cached = step.Step("sparse"), step.Step("cached")
    for _ in range(3):
        assert cached() == pytest.approx(sparse(), abs=1e-5)


def dense_classifier():
    """Two dense layers, whose kernels need no scratch."""
    small_classifier()
    hidden = keras.layers.Dense(256, activation="relu", name="hidden")
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), hidden, keras.layers.Dense(3, name="logits")])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    return model, PLAN


def peaks(**environment):
    """(return code, output, errors) of `peak_bytes` with 640 and with 6400 samples in a fresh process."""
    code = (
        "import tests.benchmark.test_step as here; here.step.classifier = here.dense_classifier\n"
        "for here.step.NUM_SAMPLES in (640, 6400): print(here.step.peak_bytes('full'))"
    )
    paths = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CPU_ALLOCATOR_USE_BFC"}
    environment = {**inherited, "PYTHONPATH": paths, **environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("onednn", ["0", "1"])
def test_memory_is_what_the_allocator_held_at_once(onednn):
    done = peaks(TF_CPU_ALLOCATOR_USE_BFC="1", TF_ENABLE_ONEDNN_OPTS=onednn)
    assert done.returncode == 0, done.stderr
    few, many = map(int, done.stdout.split())
    kept = 4 * (8 * 8 * 3 + 256)  # bytes of a sample and of what its backward pass reads
    assert 5760 * kept < many - few < 3 * 5760 * kept, (few, many)


def test_there_is_no_figure_with_an_allocator_that_does_not_count_all():
    """oneDNN's own counts large tensors only: its figure would be too small."""
    done = peaks(TF_ENABLE_ONEDNN_OPTS="1")
    assert done.returncode != 0 and done.stdout == ""
    assert "There are no full memory stats for device CPU:0: set TF_CPU_ALLOCATOR_USE_BFC=1" in done.stderr


def test_without_the_counting_allocator_there_is_no_figure(small):
    with pytest.raises(ValueError, match="no full memory stats for device"):
        step.peak_bytes("sparse")
