"""The function that `fit` calls with its iterator, around a training step of our own."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_tinytrain.model.keras_package import is_keras2
from keras_tinytrain.model.private_keras import count_keras2_step, keras2_steps_per_execution


def steps_per_execution(model: keras.Model) -> int:
    """Batches that `fit` trains on at each call of the train function."""
    return keras2_steps_per_execution(model) if is_keras2(model) else model.steps_per_execution


def keras3_train_function(model: keras.Model, step: Callable[[Any], dict]) -> Callable[[Iterator], dict]:
    """Keras' own train function around `step`, compiled without XLA, which is several times slower on depthwise convolutions."""
    before = model.train_function, model.jit_compile
    model.jit_compile, vars(model)["train_step"] = False, step
    try:
        return model.make_train_function(force=True) or model.train_function
    finally:
        model.train_function, model.jit_compile = before
        vars(model).pop("train_step")


def train_function(
    model: keras.Model, step: Callable[[Any], dict], *, prepare: Callable[[Any], Any] = lambda data: data
) -> Callable[[Iterator], dict]:
    """A function from an iterator of batches to the metrics after the last of the next `steps_per_execution` of them.

    Args:
        model: its settings decide the steps per call, and whether they run eagerly.
        step: a batch -> {metric: value}; compiled once.
        prepare: called with each batch before `step`, outside the graph.

    Raises:
        StopIteration: there is no batch left.
    """
    compiled = step if model.run_eagerly else tf.function(step, jit_compile=False, reduce_retracing=True)

    def run(iterator):
        metrics = None
        for data in itertools.islice(iterator, steps_per_execution(model)):
            metrics = compiled(prepare(keras.tree.map_structure(_none_for_optional, data)))
            if is_keras2(model):
                count_keras2_step(model)
        if metrics is None:
            raise StopIteration
        return metrics

    return run


def _none_for_optional(value):
    """Keras 3 sends a missing sample weight through tf.data as an Optional."""
    return None if isinstance(value, tf.experimental.Optional) else value
