"""`keras-tinytrain benchmark timing`: the time of scores and selection beside one plain training step of the same batch."""

import argparse
import json

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain import backbones
from keras_tinytrain._text import aligned, duration
from keras_tinytrain.benchmark.stopwatch import median_seconds
from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.planner import summed_cross_entropy
from keras_tinytrain.choose.strategies import find_strategy, make_task
from keras_tinytrain.fewshot.adapter import Adapter
from keras_tinytrain.plan import Budget

NUM_SAMPLES, NUM_CLASSES = 25, 5


def run(args: argparse.Namespace) -> int:
    """Print the times. Returns the exit code 0."""
    times = measure(args.repeats)
    if args.json:
        print(json.dumps(times))
        return 0
    lines = [("MCUNet at 128x128, 25 samples", "time", "of the step")]
    for name, value in times.items():
        step = times["eager_step" if name.startswith("eager") else "step"]
        lines.append((name, duration(value), f"{value / step:.2f}"))
    print(aligned(lines))
    return 0


def measure(repeats: int) -> dict[str, float]:
    """Median seconds, the runs of all taken in turn. Scores are of the last six blocks, computed in float64.

    Returns:
        step: forward and backward pass of everything, as a compiled graph without XLA; scores: as `adapt` computes them, compiled
        once per backbone; selection: the budgeted choice; scores_and_selection: their sum.
        eager_step, eager_scores, eager_scores_and_selection: the same, nothing compiled, as for a first task, with the layer
        table that is then made.
    """
    model = backbones.MCUNet(weights=None)
    classifier = keras.Model(model.input, keras.layers.Dense(NUM_CLASSES)(model.output))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(NUM_SAMPLES, 128, 128, 3)).astype(np.float32), np.repeat(np.arange(NUM_CLASSES), 5)
    prototypes = rng.normal(size=(NUM_CLASSES, model.output_shape[-1])).astype(np.float32)
    loss, variables = summed_cross_entropy(y), [variable.value for variable in classifier.trainable_variables]
    adapter = Adapter.of(model)

    def eager_step(images):
        with tf.GradientTape() as tape:
            value = loss(classifier(images), np.arange(NUM_SAMPLES))
        return tape.gradient(value, variables)

    step, images, tasks = tf.function(eager_step, jit_compile=False), tf.constant(x), []

    def eager_scores():
        tasks.append(make_task(classifier, x, loss, Budget("0.89MB", 6.51e6), accounting=paper_cost.PaperAccounting()))
        return tasks[-1].fisher

    runs = {
        "step": lambda: step(images)[0].numpy(),
        "eager_step": lambda: eager_step(images),
        "eager_scores": eager_scores,
        "scores": lambda: adapter.fisher(x, y, prototypes, [row.name for row in tasks[-1].rows]),
        "selection": lambda: find_strategy("fisher")(tasks[-1]),
    }
    medians = median_seconds(runs, repeats)
    sums = {f"{name}_and_selection": medians[name] + medians["selection"] for name in ("scores", "eager_scores")}
    return {**medians, **sums}
