"""`keras-tinytrain benchmark timing`: what scores and selection cost, beside one plain training step of the same batch."""

import argparse
import json
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain import backbones, cost
from keras_tinytrain.benchmark.text import aligned
from keras_tinytrain.plan import Budget
from keras_tinytrain.planner import summed_cross_entropy
from keras_tinytrain.strategies import find_strategy, make_task

NUM_SAMPLES = 25


def run(args: argparse.Namespace) -> int:
    """Print the milliseconds. Returns the exit code 0."""
    times = measure(args.repeats)
    if args.json:
        print(json.dumps(times))
        return 0
    lines = [("MCUNet at 128x128, 25 samples", "ms", "of a step")]
    lines += [(name, f"{1000 * value:.0f}", f"{value / times['step']:.2f}") for name, value in times.items()]
    print(aligned(lines))
    return 0


def measure(repeats: int) -> dict[str, float]:
    """Median seconds, the runs of all taken in turn.

    Returns:
        step: forward and backward pass of everything, as a compiled graph without XLA; eager_step: the same, not compiled;
        scores: Fisher pass over the last six blocks; selection: the budgeted choice;
        describing: canonical form and layer table, before them; scores_and_selection: the sum of those three.
    """
    model = backbones.MCUNet(weights=None)
    classifier = keras.Model(model.input, keras.layers.Dense(5)(model.output))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(NUM_SAMPLES, 128, 128, 3)).astype(np.float32), np.repeat(np.arange(5), NUM_SAMPLES // 5)
    loss, variables = summed_cross_entropy(y), [variable.value for variable in classifier.trainable_variables]

    def eager_step(images):
        with tf.GradientTape() as tape:
            value = loss(classifier(images), np.arange(NUM_SAMPLES))
        return tape.gradient(value, variables)

    step, images, tasks = tf.function(eager_step, jit_compile=False), tf.constant(x), []

    def describing():
        tasks.append(make_task(classifier, x, loss, Budget("0.89MB", 6.51e6), accounting=cost.PaperAccounting()))

    runs = {
        "step": lambda: step(images)[0].numpy(),
        "eager_step": lambda: eager_step(images),
        "describing": describing,
        "scores": lambda: tasks[-1].delta,
        "selection": lambda: find_strategy("fisher")(tasks[-1]),
    }
    times = {name: [] for name in runs}
    for _ in range(repeats + 1):  # the first round warms up
        for name, function in runs.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    return {**medians, "scores_and_selection": sum(medians[name] for name in ("describing", "scores", "selection"))}
