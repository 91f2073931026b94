"""What a process holds after many rounds is what it held after twenty."""

import gc
import os
import pathlib

import keras
import numpy as np
import pytest
from trust.trials import rounds

from keras_tinytrain import Budget, adapt
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.micro_model import MicroModel

WRITTEN = pathlib.Path(__file__).parents[1] / "fixtures" / "version_0_1" / "bundle"
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def task():
    with np.load(WRITTEN.parent / "task.npz") as arrays:
        return arrays["x"], np.arange(len(arrays["x"])) % 2


@pytest.fixture
def grows(record_property):
    def measure(what, turn, first, more, *, megabytes):
        """Asserts that `more` turns leave at most so many MB that `first` turns did not leave."""
        sizes = []
        for count in (first, more):
            for _ in range(count):
                turn()
            gc.collect()
            sizes.append(int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        grown = (sizes[1] - sizes[0]) / MEGABYTE
        record_property("grew", f"{what}|{first}|{first + more}|{grown:.1f}")
        assert grown < megabytes

    return measure


def test_training_on_the_host_again_and_again(task, grows):
    host = HostRuntime(WRITTEN, settings={"iterations": 20})
    host.add_samples(*(array[:4] for array in task))

    def turn():
        host.revert()
        host.train()
        host.predict(task[0][:4])

    grows("rounds of `HostRuntime.train`, 20 iterations of 4 samples", turn, 20, rounds(100) - 20, megabytes=4)


def test_many_hosts_one_after_the_other(grows):
    grows("`HostRuntime`s, one after the other", lambda: HostRuntime(WRITTEN), 20, 180, megabytes=20)


def test_ten_thousand_forward_passes(task, grows):
    host = HostRuntime(WRITTEN)
    model = MicroModel(host.bundle.trainable, 1 << 16)
    x = np.zeros(model._input_shape, np.int8)
    grows("forward passes of TensorFlow Lite Micro", lambda: model(x), 1000, 9000, megabytes=4)


def test_adapting_again_and_again(grows):
    """Each task has samples and channels of its own; the plans' layers are those of one network."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((8, 8, 1))
    for name in ("first", "second", "third"):
        x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name=name)(x)
    backbone = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    draw = np.random.default_rng(0)

    def turn():
        samples = draw.random((6, 8, 8, 1), np.float32)
        budget = Budget("64KB", draw.choice((0.1, 0.3, 0.9)))
        adapt(backbone, samples, np.arange(6) % 2, budget=budget, iterations=2, shifts=((0, 1),)).predict(samples)

    grows("rounds of `adapt`, 2 iterations of 6 samples", turn, 20, rounds(40) - 20, megabytes=20)
