"""Where the output channels of a layer lie in its kernel."""

import keras

from keras_tinytrain.model.keras_package import keras_package
from keras_tinytrain.model.layers import CHANNEL_AXIS


def kernel_channel_axis(layer: keras.layers.Layer) -> int:
    """Axis of the output channels in the layer's kernel. Raises ValueError for layers without channels."""
    layers = keras_package(layer).layers
    if isinstance(layer, layers.DepthwiseConv2D):
        return CHANNEL_AXIS["depthwise"]
    transposed = isinstance(layer, layers.Conv2DTranspose)  # which is a Conv2D in tf_keras
    if (isinstance(layer, (layers.Conv2D, layers.Dense)) and not transposed) or getattr(layer, "learned_state", False):
        return CHANNEL_AXIS["dense"]
    raise ValueError(
        f"Layer '{layer.name}' is a {type(layer).__name__}; channels are trained in Conv2D, DepthwiseConv2D and Dense layers."
    )
