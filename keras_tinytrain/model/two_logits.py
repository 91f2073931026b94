"""A binary classifier of one unit as two logits, for a device that trains a softmax."""

import math

import keras

from keras_tinytrain.model.graph import rebuild


def two_logits(model: keras.Model, head: str) -> keras.Model:
    """`model` with the logits (0, z) in place of its one logit z; other layers are shared.

    The two functions are the same, and so are their gradients with respect to z, if only the second row is trained:

        softmax(0, z) = (1 - sigmoid(z), sigmoid(z)),    d/dz crossentropy(softmax(0, z), y) = sigmoid(z) - y

    Args:
        model: in canonical form, up to the logit: (N, ...) -> (N, 1).
        head: the name of its last layer with weights, a Dense layer or a convolution with one output channel.

    Returns:
        (N, ...) -> (N, 2). Layer `head` has two output channels, the first of which is all zeros.
    """
    twin: list[keras.layers.Layer] = []

    def call(layer, *args, **kwargs):
        if layer.name == head:
            twin.append(_with_zero_channel(layer))
            return twin[0](*args, **kwargs)
        after = twin and isinstance(layer, keras.layers.Reshape) and math.prod(layer.target_shape) == 1
        return (keras.layers.Flatten(name=layer.name) if after else layer)(*args, **kwargs)

    return rebuild(model, call)


def _with_zero_channel(layer):
    """A copy of `layer` with a first output channel of zeros."""
    size = {"units": 2} if isinstance(layer, keras.layers.Dense) else {"filters": 2}
    copy = layer.__class__.from_config({**layer.get_config(), **size})
    copy.build(layer.input.shape)
    copy.set_weights([keras.ops.concatenate([keras.ops.zeros_like(weight), weight], axis=-1) for weight in layer.weights])
    return copy
