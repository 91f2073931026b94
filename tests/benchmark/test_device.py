"""`benchmark device`: one task learned in float, with the device's weights, on its grid and on it; what was done is not done again."""

import keras
import numpy as np
import pytest
from models import tiny_net

from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.benchmark import device
from keras_tinytrain.cli import main
from keras_tinytrain.data import load_digits
from keras_tinytrain.data.episodes import sample_episode
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.plan import Budget, LayerPlan, Plan
from keras_tinytrain.run.dequantise import dequantised_model

ITERATIONS = 6


def test_closed_form_head_after_training_on_the_device_and_in_keras():
    task = sample_episode(load_digits(), ways=3, shots=1, queries=5, rng=np.random.default_rng(1))
    row = device.run_task(NanoNet(), task, Budget("2MB", 0.15), 1, "ridge")
    assert abs(row["device"] - row["float"]) < 0.14 and row["grid"] == ""  # two of fifteen
    shown = device.summary_text([row | {"domain": "digits"}]).splitlines()[-1].split()
    assert shown[:4] == ["all", "1", f"{100 * row['float']:.2f}", f"{100 * row['device']:.2f}"]


def test_one_task_four_times():
    task = sample_episode(load_digits(), ways=5, shots=2, queries=10, rng=np.random.default_rng(0))
    row = device.run_task(NanoNet(), task, Budget("2MB", 0.15), ITERATIONS)
    dequantised, grid, ours = ([float(loss) for loss in row[name].split()] for name in device.LOSSES)
    assert len(ours) == len(grid) == len(dequantised) == ITERATIONS and ours[-1] < ours[0]
    apart = np.abs(np.subtract(ours, dequantised)) / dequantised[0]
    assert apart.mean() < 0.02 and apart.max() < 0.05
    assert device.curve_difference(ours, grid)[1] < 1e-4 and row["device"] == row["grid"]
    assert row["weights"] > 0 and abs(row["device"] - row["float"]) <= 0.06  # three of fifty


def test_dequantised_weights_are_within_half_a_step(tmp_path):
    model, plan = tiny_net(), Plan((LayerPlan("b1_project", (0, 2)),))
    task = sample_episode(load_digits(), ways=5, shots=1, queries=1, rng=np.random.default_rng(0))
    samples = np.repeat(task.support_x[:, 4:28:2, 4:28:2], 3, axis=-1)
    options = {"learning_rate": 1e-3, "iterations": 1, "shifts": ((0, 1),)}
    bundle = device._export(
        model, plan, type(task)(samples, task.support_y, samples, task.support_y), options, tmp_path / "net"
    )
    copy, canonical = dequantised_model(model, bundle), fold_batch_norm(model)
    for layer in (layer for layer in canonical.layers if layer.get_weights()):
        old, new = np.asarray(layer.kernel), np.asarray(copy.get_layer(layer.name).kernel)
        axes = tuple(range(old.ndim - 1)) if isinstance(layer, keras.layers.Conv2D) else None
        axes = (0, 1, 3) if isinstance(layer, keras.layers.DepthwiseConv2D) else axes
        step = np.abs(old).max(axis=axes, keepdims=True) / 127
        assert (np.abs(new - old) <= 0.501 * step).all() and (new != old).any()
        np.testing.assert_allclose(copy.get_layer(layer.name).bias, layer.bias, rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="holds no layer 'first'"):
        dequantised_model(keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Conv2D(2, 3, name="first")]), bundle)


def test_curves_are_compared_with_the_loss_or_a_tenth_of_the_first():
    assert device.curve_difference([2.0, 1.1, 0.09], [2.0, 1.0, 0.1]) == pytest.approx((0.15 / 3, 0.1))


def test_tasks_are_averaged_and_not_learned_again(tmp_path, monkeypatch, capsys):
    learned = []

    def run_task(backbone, task, budget, iterations, head):
        learned.append(task)
        curve = "1.0 0.5"
        return {
            "weights": 7,
            "float": 0.5,
            "dequantised": 0.5,
            "grid": 0.52,
            "device": 0.5 + 0.02 * len(learned),
            **dict.fromkeys(device.LOSSES, curve),
        }

    monkeypatch.setattr(device, "run_task", run_task)
    labels = np.repeat(np.arange(5), 20)
    np.savez(tmp_path / "grey.npz", images=np.zeros((100, 8, 8, 3), np.uint8), labels=labels)
    command = [
        "benchmark",
        "device",
        "--backbone",
        "nanonet",
        "--domains",
        str(tmp_path / "grey.npz"),
        "--out",
        str(tmp_path / "results.csv"),
    ]
    assert main([*command, "--episodes", "1"]) == 0
    assert main([*command, "--episodes", "2"]) == 0
    assert len(learned) == 2
    line = capsys.readouterr().out.splitlines()[-1].split()
    assert (
        line[:7] == ["all", "2", "50.00", "50.00", "52.00", "53.00", "3.00"]
        and line[-10:] == ["0.00", "%", "0.00", "%", "2/2"] * 2
    )
