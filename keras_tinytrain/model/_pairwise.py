"""Concatenations, sums and products of many tensors as those of two, which is how the device goes backwards through them."""

import keras

from keras_tinytrain.model.graph import rebuild

_OF_MANY = (keras.layers.Concatenate, keras.layers.Add, keras.layers.Multiply)


def joins_many(layer: keras.layers.Layer, num_inputs: int) -> bool:
    """Whether a layer joins more than two tensors."""
    return type(layer) in _OF_MANY and num_inputs > 2


def pairwise(model: keras.Model) -> keras.Model:
    """`model` where layers "<layer>.1", "<layer>.2", ... join two tensors each, the last under the layer's own name.

    It takes no more memory: each further tensor takes the place of the two that it is joined of.

    Args:
        model: a flat functional model; layers that join two tensors, and all others, are shared with it.

    Returns:
        `model` itself where no layer joins more.
    """
    if not any(joins_many(layer, len(keras.tree.flatten(layer.input))) for layer in model.layers if type(layer) in _OF_MANY):
        return model

    def call(layer, *args, **kwargs):
        tensors = keras.tree.flatten(args)
        return _joined(layer, tensors) if joins_many(layer, len(tensors)) else layer(*args, **kwargs)

    return rebuild(model, call)


def _joined(layer, tensors):
    first, *others = tensors
    for count, tensor in enumerate(others, 1):
        name = layer.name if count == len(others) else f"{layer.name}.{count}"
        first = type(layer).from_config({**layer.get_config(), "name": name})([first, tensor])
    return first
