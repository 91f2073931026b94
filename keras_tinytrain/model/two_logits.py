"""A binary classifier of one unit as two logits, for a device that trains a softmax."""

import itertools
import math

import keras
import numpy as np

from keras_tinytrain.model.graph import rebuild, walk

_PASS_CONSTANTS = (
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Dropout,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.AveragePooling2D,
)


def two_logits(model: keras.Model, head: str, shift: float = 0.0) -> keras.Model:
    """`model` with the logits (c, z + c) in place of its one logit z; other layers are shared.

    The two functions are the same, and so are their gradients with respect to z, if only the second row is trained:

        softmax(c, z + c) = (1 - sigmoid(z), sigmoid(z)),    d/dz crossentropy(softmax(c, z + c), y) = sigmoid(z) - y

    Args:
        model: in canonical form, up to the logit: (N, ...) -> (N, 1).
        head: the name of its last layer with weights, a Dense layer or a convolution with one output channel.
        shift: c, see `int8_shift`; 0 where the layer has no bias.

    Returns:
        (N, ...) -> (N, 2). Layer `head` has two output channels, and the kernel of the first is all zeros.
    """
    twin: list[keras.layers.Layer] = []

    def call(layer, *args, **kwargs):
        if layer.name == head:
            twin.append(_with_constant_channel(layer, shift))
            return twin[0](*args, **kwargs)
        after = twin and isinstance(layer, keras.layers.Reshape) and math.prod(layer.target_shape) == 1
        return (keras.layers.Flatten(name=layer.name) if after else layer)(*args, **kwargs)

    return rebuild(model, call)


def int8_shift(model: keras.Model, head: str, x: np.ndarray) -> float:
    """The constant c for `two_logits` with which an int8 logit can change its sign.

    int8 holds the range that the logits reach on some samples, and zero. Where z has one sign on all of them, training could
    not turn it: with c = max |z| of that sign the range is as wide on both sides of c.

    Args:
        model, head: as for `two_logits`.
        x: samples (N, ...).

    Returns:
        c; 0 where z has both signs, where `head` has no bias, or where a layer after it does not pass a constant on.
    """
    first, *after = itertools.dropwhile(lambda layer: layer.name != head, [node.layer for node in walk(model)])
    if not (first.use_bias and all(isinstance(layer, _PASS_CONSTANTS) for layer in after)):
        return 0.0
    logits = np.concatenate([np.asarray(model(x[start : start + 64], training=False)) for start in range(0, len(x), 64)])
    return 0.0 if logits.min() < 0 < logits.max() else float(logits[np.argmax(np.abs(logits))][0])


def _with_constant_channel(layer, shift):
    """A copy of `layer` with a first output channel of `shift`, which is added to the other, too."""
    size = {"units": 2} if isinstance(layer, keras.layers.Dense) else {"filters": 2}
    copy = layer.__class__.from_config({**layer.get_config(), **size})
    copy.build(layer.input.shape)
    kernel, *bias = layer.get_weights()
    kernel = np.concatenate([np.zeros_like(kernel), kernel], axis=-1)
    copy.set_weights([kernel, *(np.append(0, one) + shift for one in bias)])
    return copy
