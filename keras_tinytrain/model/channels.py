"""Where the output channels of a layer lie in its kernel."""

import keras

from keras_tinytrain.model.keras_package import keras_package
from keras_tinytrain.model.layers import CHANNEL_AXIS, TRAINABLE_LAYERS


def kernel_channel_axis(layer: keras.layers.Layer) -> int:
    """Axis of the output channels in the layer's kernel. Raises ValueError for layers without channels."""
    layers = keras_package(layer).layers
    if isinstance(layer, (layers.DepthwiseConv2D, layers.DepthwiseConv1D)):
        return CHANNEL_AXIS["depthwise"]
    # In tf_keras these are convolutions by inheritance.
    others = (layers.Conv2DTranspose, layers.Conv1DTranspose, layers.SeparableConv2D, layers.SeparableConv1D)
    known = isinstance(layer, (layers.Conv2D, layers.Conv1D, layers.Dense)) and not isinstance(layer, others)
    if known or getattr(layer, "learned_state", False):
        return CHANNEL_AXIS["dense"]
    raise ValueError(f"Layer '{layer.name}' is a {type(layer).__name__}; channels are trained in {TRAINABLE_LAYERS}.")
