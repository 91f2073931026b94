"""BatchNormalization that no layer takes up, as one depthwise convolution: the converter would make a product and a sum of it."""

import keras
import numpy as np

from keras_tinytrain.model.fold import scale_and_shift
from keras_tinytrain.model.graph import rebuild


def norms_as_convolutions(model: keras.Model) -> keras.Model:
    """`model` where BatchNormalization of an image's channels, as before an activation in DenseNet and ResNetV2, is a depthwise
    convolution of 1 x 1 of its name: s x + t. The other layers are shared.

    Args:
        model: in canonical form.

    Returns:
        `model` itself where it has no BatchNormalization.
    """
    if not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        return model

    def call(layer, *args, **kwargs):
        return _convolution(layer, args[0].shape)(args[0]) if _is_of_channels(layer, args) else layer(*args, **kwargs)

    return rebuild(model, call)


def _is_of_channels(layer, args):
    return isinstance(layer, keras.layers.BatchNormalization) and len(args[0].shape) == 4 and layer.axis in (-1, 3)


def _convolution(norm, shape):
    convolution = keras.layers.DepthwiseConv2D(1, name=norm.name)
    convolution.build(shape)
    scale, shift = scale_and_shift(norm)
    convolution.set_weights([np.float32(scale).reshape(1, 1, -1, 1), np.float32(shift)])
    return convolution
