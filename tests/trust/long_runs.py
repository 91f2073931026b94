"""How much more a process holds after many rounds: `python long_runs.py NAME FIRST MORE` prints MB. It does nothing else, so that
nothing else grows in it.
"""

import gc
import os
import pathlib
import sys
from collections.abc import Callable

import numpy as np

from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.micro_model import MicroModel

_WRITTEN = pathlib.Path(__file__).parents[1] / "fixtures" / "version_0_1" / "bundle"


def grown(turn: Callable[[], object], first: int, more: int) -> float:
    """MB that `more` turns leave and `first` turns did not."""
    sizes = []
    for count in (first, more):
        for _ in range(count):
            turn()
        gc.collect()
        sizes.append(int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    return (sizes[1] - sizes[0]) / 2**20


def training() -> Callable[[], object]:
    """A round of `HostRuntime.train`, 20 iterations of 4 samples."""
    host = HostRuntime(_WRITTEN, settings={"iterations": 20})
    with np.load(_WRITTEN.parent / "task.npz") as arrays:
        x = arrays["x"][:4]
    host.add_samples(x, np.arange(4) % 2)

    def turn():
        host.revert()
        host.train()
        host.predict(x)

    return turn


def hosts() -> Callable[[], object]:
    """A `HostRuntime`."""
    return lambda: HostRuntime(_WRITTEN)


def passes() -> Callable[[], object]:
    """A forward pass of TensorFlow Lite Micro."""
    model = MicroModel(HostRuntime(_WRITTEN).bundle.trainable, 1 << 16)
    x = np.zeros(model._input_shape, np.int8)
    return lambda: model(x)


def adapting() -> Callable[[], object]:
    """A round of `adapt`: each task has samples and channels of its own; the plans' layers are those of one network."""
    import keras  # the others do without TensorFlow

    from keras_tinytrain import Budget, adapt

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

    return turn


if __name__ == "__main__":
    print(grown(globals()[sys.argv[1]](), int(sys.argv[2]), int(sys.argv[3])))
