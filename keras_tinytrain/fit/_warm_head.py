"""Scores through a head that knows something: a short training of the head alone, on the samples that are scored."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.choose.protocols import Loss
from keras_tinytrain.model.graph import find_layer, flatten
from keras_tinytrain.model.split import split_model

_STEPS, _LEARNING_RATE = 100, 1e-2  # of Adam, on all samples at once
_KNOWS = 0.5  # of the loss of a head of zeros: a head whose loss is lower than this has been trained


@contextlib.contextmanager
def warm_head(model: keras.Model, head: str | None, x: np.ndarray, loss: Loss) -> Iterator[None]:
    """Inside it, the head of `model` has learned the samples a little, if it was new; afterwards it is as before, bit for bit.

    A new head passes a random mixture of all directions back to the network, and the scores of its channels are then of no
    task. Features are computed once, and the head alone is trained on them.

    Args:
        model: with float weights.
        head: name of its head; None changes nothing.
        x: samples (N, ...).
        loss: loss(outputs, indices) -> the SUM of the losses of the samples `indices`.
    """
    if head is None:
        yield
        return
    layer = find_layer(model, head)
    before = layer.get_weights()
    try:
        _train(split_model(flatten(model), head), layer, x, loss)
        yield
    finally:
        layer.set_weights(before)


def _train(parts, layer, x, loss):
    frozen, following = parts
    features = tf.constant(x if frozen is None else frozen.predict(x, verbose=0))
    indices, variables = np.arange(len(x)), layer.trainable_variables

    def mean_loss():
        return loss(following(features, training=False), indices) / len(x)

    own, values = mean_loss(), layer.get_weights()
    layer.set_weights([np.zeros_like(value) for value in values])
    without_head = mean_loss()
    layer.set_weights(values)
    if own < _KNOWS * without_head:
        return
    optimizer = keras.optimizers.Adam(_LEARNING_RATE)
    optimizer.build(variables)

    @tf.function(jit_compile=False)
    def step():
        with tf.GradientTape() as tape:
            value = mean_loss()
        optimizer.apply_gradients(zip(tape.gradient(value, [variable.value for variable in variables]), variables))

    for _ in range(_STEPS):
        step()
