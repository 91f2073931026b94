"""The whole online stage on the emulated board, selection included: same plan, same delta as on the host, in 256 KB."""

import os

import numpy as np
import pytest

from keras_tinytrain.backbones import GestureNet, NanoNet
from keras_tinytrain.data import load_digits, load_npz
from keras_tinytrain.data.episodes import sample_episode
from keras_tinytrain.export import Candidates, TrainingSettings, board, export_tflm
from keras_tinytrain.plan import Budget
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.emulation import emulate_task
from keras_tinytrain.run.firmware import build_firmware

NANO = board("nano33ble")
ITERATIONS = 40 if os.environ.get("KERAS_TINYTRAIN_LONG_TESTS") else 1
NUM_QUERIES = 50 if os.environ.get("KERAS_TINYTRAIN_LONG_TESTS") else 3


def digits(shared_data):
    return NanoNet(), load_digits()


def gestures(shared_data):
    return GestureNet(), load_npz(shared_data / "domains" / "nano33ble_gesture_dev.npz")


@pytest.fixture(scope="module", params=[digits, gestures], ids=lambda task: task.__name__)
def task(request, shared_data, tmp_path_factory):
    """(bundle, its firmware, a 5-way 5-shot episode)."""
    backbone, domain = request.param(shared_data)
    episode = sample_episode(domain, ways=5, shots=5, rng=np.random.default_rng([0, 0]))
    folder = tmp_path_factory.mktemp("adaptive")
    training = TrainingSettings(iterations=ITERATIONS, num_classes=5, max_samples=len(episode.support_y))
    bundle = export_tflm(
        backbone,
        Candidates(),
        calibration=episode.support_x,
        out=folder / "net",
        training=training,
        features="flash",
        head="prototypes",
    )
    return bundle, build_firmware(bundle, folder), episode


@pytest.mark.parametrize("budget", [None, Budget("200KB", 0.05)], ids=str)
def test_board_and_host_choose_and_learn_the_same(task, budget):
    bundle, program, episode = task
    x, y, queries = episode.support_x, episode.support_y, episode.query_x[:NUM_QUERIES]
    emulated = emulate_task(bundle, x, y, queries=queries, budget=budget, program=program)
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    plan = host.select(budget)
    losses = host.train()
    assert emulated.plan.layers == plan.layers
    assert (emulated.losses, emulated.delta) == (losses, host.trainer.save_delta(0))
    np.testing.assert_array_equal(emulated.logits, host.predict(queries))
    assert emulated.sram_bytes["total"] <= NANO.sram_bytes and emulated.flash_bytes["total"] <= NANO.flash_bytes
    assert emulated.heap_bytes == 0 and 0 < emulated.stack_bytes < 4096
    assert emulated.instructions["selection"] > 25 * 100_000
    if budget is not None:
        assert host.bytes_used()["sram"]["total"] <= budget.memory_bytes
