"""Gestures from a real board's sensor, learned on the emulated one by a network that never saw them."""

import numpy as np
import pytest

from keras_tinytrain.backbones import GestureNet
from keras_tinytrain.data import load_npz
from keras_tinytrain.data.episodes import sample_episode
from keras_tinytrain.export import TrainingSettings, board, export_tflm
from keras_tinytrain.fewshot.adaptation import adapt
from keras_tinytrain.plan import Budget
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.emulation import emulate_task

NANO = board("nano33ble")
ITERATIONS = 2  # `keras-tinytrain emulate` runs all 40: docs/results/gestures.md


@pytest.fixture(scope="module")
def task(shared_data):
    domain = load_npz(shared_data / "domains" / "nano33ble_gesture_dev.npz")
    return sample_episode(domain, ways=5, shots=5, queries=1, rng=np.random.default_rng(0))


def test_a_task_is_learned_within_the_board_as_on_the_host(task, tmp_path):
    x, y = task.support_x, task.support_y
    backbone = GestureNet()
    plan = adapt(backbone, x, y, budget=Budget(NANO.available_sram_bytes, 0.15), iterations=1).plan
    training = TrainingSettings(num_classes=5, max_samples=25)
    bundle = export_tflm(
        backbone, plan, calibration=x, out=tmp_path / "gestures", training=training, sketch="imu", head="prototypes"
    )
    host = HostRuntime(bundle, settings={"iterations": ITERATIONS})
    host.add_samples(x, y)
    losses = host.train()
    emulated = emulate_task(bundle, x, y, iterations=ITERATIONS, queries=task.query_x)
    assert (emulated.losses, emulated.delta) == (losses, host.trainer.save_delta(0))
    np.testing.assert_array_equal(emulated.logits, host.predict(task.query_x))
    assert emulated.sram_bytes["total"] <= NANO.sram_bytes and emulated.flash_bytes["total"] <= NANO.flash_bytes
    assert bundle.promised_bytes["sram"]["total"] <= NANO.available_sram_bytes
    assert emulated.heap_bytes == 0
