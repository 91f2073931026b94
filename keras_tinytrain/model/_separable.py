"""Separable convolutions as their two convolutions, "<layer>.depthwise" and "<layer>.pointwise"."""

import keras

from keras_tinytrain.model.graph import rebuild

_PARTS: dict[type, tuple[type, type]] = {  # the layers that compute its two convolutions
    keras.layers.SeparableConv2D: (keras.layers.DepthwiseConv2D, keras.layers.Conv2D),
    keras.layers.SeparableConv1D: (keras.layers.DepthwiseConv1D, keras.layers.Conv1D),
}
_WINDOW = ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier", "data_format")
_OUTPUT = ("filters", "use_bias", "activation", "data_format")


def separate_convolutions(model: keras.Model) -> keras.Model:
    """`model` with two layers in place of each separable convolution; the others are shared with `model`.

    Args:
        model: a flat functional model.

    Returns:
        `model` itself where it has no separable convolution.
    """
    if not any(type(layer) in _PARTS for layer in model.layers):
        return model

    def call(layer, *args, **kwargs):
        return _call_parts(layer, *args) if type(layer) in _PARTS else layer(*args, **kwargs)

    return rebuild(model, call)


def _call_parts(layer: keras.layers.Layer, inputs: keras.KerasTensor) -> keras.KerasTensor:
    depthwise_class, pointwise_class = _PARTS[type(layer)]
    config = layer.get_config()
    window, output = ({name: config[name] for name in names} for names in (_WINDOW, _OUTPUT))
    depthwise = depthwise_class(name=f"{layer.name}.depthwise", use_bias=False, dtype=layer.dtype_policy, **window)
    pointwise = pointwise_class(name=f"{layer.name}.pointwise", kernel_size=1, dtype=layer.dtype_policy, **output)
    outputs = pointwise(depthwise(inputs))
    depthwise_kernel, *others = layer.get_weights()
    depthwise.set_weights([depthwise_kernel])
    pointwise.set_weights(others)
    return outputs
