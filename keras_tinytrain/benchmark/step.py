"""`keras-tinytrain benchmark step`: time and memory of a sparse training step beside a step of full fine-tuning."""

import argparse
import json

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain import backbones
from keras_tinytrain._text import aligned, duration
from keras_tinytrain.benchmark import allocator
from keras_tinytrain.benchmark.cost import method_plans
from keras_tinytrain.benchmark.stopwatch import median_seconds
from keras_tinytrain.fit.frozen_cache import FrozenCache, split_for_cache
from keras_tinytrain.fit.sparse import channel_optimizer, channel_slices, sparse_train_step
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import Plan

NUM_SAMPLES, NUM_CLASSES, IMAGE_SIZE = 25, 5, 128
METHODS = ("full", "sparse", "cached")


def run(args: argparse.Namespace) -> int:
    """Print the table. Returns the exit code 0."""
    result = measure(args.repeats)
    if args.json:
        print(json.dumps(result))
        return 0
    full = result["methods"]["full"]
    lines = [("MCUNet at 128x128, 25 samples, Adam", "time", "of full", "peak MiB", "of full", "optimizer state")]
    for name, of in result["methods"].items():
        peak = f"{of['peak_bytes'] / 2**20:.1f}", f"{of['peak_bytes'] / full['peak_bytes']:.2f}"
        speed = duration(of["seconds"]), f"{of['seconds'] / full['seconds']:.2f}"
        lines.append((name, *speed, *peak, f"{of['optimizer_state']:,}"))
    print(f"{aligned(lines)}\n\ntrained: {result['plan']}\n{_NOTES}")
    return 0


_NOTES = """full: all weights, BatchNorm folded into them, as in the other rows.
sparse: the plan of `benchmark cost`, which fills the paper's budget.
cached: the same with the frozen part's outputs cached; the time includes hashing the samples to find them.
time: medians, the three methods taken in turn in one process.
peak: the most bytes that TensorFlow's CPU allocator held at once in two steps, with weights, optimizer, samples and one pass
through the frozen part where it is cached; each method in a process of its own, whose allocator counts every byte
(TF_CPU_ALLOCATOR_USE_BFC=1).
optimizer state: numbers held beside the weights."""


def measure(repeats: int) -> dict:
    """{"plan": {layer: channels}, "methods": {method: {"seconds", "peak_bytes", "optimizer_state"}}}."""
    steps = {method: Step(method) for method in METHODS}
    seconds = median_seconds(steps, repeats)
    methods = {
        method: {
            "seconds": seconds[method],
            "peak_bytes": _peak_bytes_elsewhere(method),
            "optimizer_state": step.optimizer_state,
        }
        for method, step in steps.items()
    }
    return {"plan": {layer.name: len(layer.channels) for layer in steps["sparse"].plan.layers}, "methods": methods}


class Step:
    """A training step that is called without arguments: "full", "sparse" or "cached" on one fixed batch.

    Attributes:
        plan: the plan; not used by "full".
        optimizer_state: numbers that the optimizer holds for the weights.
    """

    def __init__(self, method: str):
        model, self.plan = classifier()
        rng = np.random.default_rng(0)
        self._x = rng.normal(size=(NUM_SAMPLES, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)
        self._y = tf.constant(np.arange(NUM_SAMPLES) % NUM_CLASSES)
        self._prepare = tf.constant
        if method == "full":
            model.optimizer.build(model.trainable_variables)
            step = model.train_step
        else:
            slices, forward = channel_slices(model, self.plan), None
            model.optimizer = channel_optimizer(model.optimizer, slices)
            if method == "cached":
                frozen, forward = split_for_cache(model, self.plan)
                self._prepare = FrozenCache(frozen, 2**30)

            def step(data):
                return sparse_train_step(model, slices, data, forward=forward)

        self._step = tf.function(step, jit_compile=False)
        state = model.optimizer.variables[2:]  # after iteration and learning rate
        self.optimizer_state = sum(int(np.prod(variable.shape)) for variable in state)

    def forget_features(self) -> None:
        """Let "cached" run the frozen part once more."""
        if isinstance(self._prepare, FrozenCache):
            self._prepare.clear()

    def __call__(self) -> float:
        """The loss."""
        return float(self._step((self._prepare(self._x), self._y))["loss"])


def classifier() -> tuple[keras.Model, Plan]:
    """MCUNet in canonical form with a dense head, compiled with Adam; and the plan that fills the paper's budget.

    Neither time nor memory depends on the values: weights are random, and the plan is of the layers that TinyTrain chooses on
    most tasks.
    """
    keras.utils.set_random_seed(0)
    backbone = fold_batch_norm(backbones.MCUNet((IMAGE_SIZE, IMAGE_SIZE, 3), weights=None))
    model = keras.Model(backbone.input, keras.layers.Dense(NUM_CLASSES, name="logits")(backbone.output))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss, jit_compile=False)
    return model, method_plans("MCUNet", layer_table(backbone))["TinyTrain"]


def peak_bytes(method: str) -> int:
    """Most bytes that TensorFlow's allocator held at once while two compiled steps ran; for a process of its own.

    Raises:
        ValueError: the allocator of this process does not count every byte.
    """
    allocator.check_allocator()
    step = Step(method)
    step()  # compiles
    step.forget_features()
    allocator.forget_peak()
    step()
    step()
    return allocator.peak_bytes()


def _peak_bytes_elsewhere(method):
    """`peak_bytes` in a fresh process with the allocator that keeps count."""
    code = f"from keras_tinytrain.benchmark.step import peak_bytes; print(peak_bytes({method!r}))"
    return int(allocator.run_elsewhere(code, what=f"the memory of '{method}'"))
