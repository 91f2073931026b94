"""The demo's tasks: which digits, how many of them, and how they are learned. Loads no TensorFlow."""

import dataclasses
import typing

SHIFTS = ((2, 2), (-2, -2))
COMPUTE = 0.15  # of a full backward pass
HEAD, ITERATIONS = "ridge", 10  # that answers after training, and how long that is, for every method
STEPS_PER_TASK = 6


@dataclasses.dataclass(frozen=True)
class DemoSettings:
    """One kind of task. Learning rates were chosen on tasks of other seeds than those that the demo shows.

    Args:
        by_camera: whether the digits are photographed, see `data.seen_by_camera`.
        ways, shots: classes, and samples of each to learn from.
        queries: samples of each class to answer; None: all others.
        learning_rates: Adam's, by method.
        features_in_flash: whether the board keeps its samples in flash, where it can.
    """

    by_camera: bool
    ways: int
    shots: int
    queries: int | None
    learning_rates: typing.Mapping[str, float]
    features_in_flash: bool


DEMOS = {
    "camera": DemoSettings(
        by_camera=True,
        ways=10,
        shots=5,
        queries=30,
        learning_rates={"last_layer": 5e-3, "full_train": 3e-3, "tiny_train": 2e-2},
        features_in_flash=True,
    ),
    "clean": DemoSettings(
        by_camera=False,
        ways=5,
        shots=5,
        queries=None,
        learning_rates={"last_layer": 3e-3, "full_train": 3e-4, "tiny_train": 3e-3},
        features_in_flash=False,
    ),
}
METHODS = {
    "none": "before learning",
    "ridge": "closed-form head, Keras",
    "tiny_train": "TinyTrain, Keras",
    "runtime": "TinyTrain, exported C++",
    "board": "TinyTrain, emulated board",
    "last_layer": "LastLayer, Keras",
    "full_train": "FullTrain, Keras",
}
