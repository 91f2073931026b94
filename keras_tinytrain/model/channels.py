"""The trained weights of a model's layers, by the names of the layer table, and where their output channels lie."""

import dataclasses
from typing import Any

import keras

from keras_tinytrain.model.graph import find_layer, named_operations
from keras_tinytrain.model.keras_package import is_keras2, keras_package
from keras_tinytrain.model.layers import CHANNEL_AXIS, TRAINABLE_LAYERS, LayerTable

SEPARABLE_PARTS = {
    "depthwise": ("depthwise_kernel", "depthwise"),
    "pointwise": ("pointwise_kernel", "conv"),
}  # {part: (its kernel's attribute, its kind)}


@dataclasses.dataclass(frozen=True)
class LayerWeights:
    """Kernel and bias of one layer of the canonical model, where they lie in the user's own model.

    Args:
        name: the canonical layer's, which a plan and a delta use.
        layer_name, layer: of the user's model. "sep.depthwise" and "sep.pointwise" lie in a SeparableConv2D "sep".
        kernel_name: the kernel's attribute of `layer`.
        axis: of the output channels in the kernel, negative.
        has_bias: whether `layer.bias` is this kernel's bias, and trained with it.
    """

    name: str
    layer_name: str
    layer: keras.layers.Layer
    kernel_name: str
    axis: int
    has_bias: bool

    @property
    def kernel(self) -> Any:
        """keras.Variable; of tf_keras a tf.Variable."""
        return getattr(self.layer, self.kernel_name)

    @property
    def bias(self) -> Any:
        """keras.Variable (tf_keras: tf.Variable), None where there is none."""
        return self.layer.bias if self.has_bias else None


def find_weights(model: keras.Model, name: str) -> LayerWeights:
    """The weights of layer `name` of the canonical form of `model`, in `model` itself.

    Raises:
        ValueError: there is no such layer, or it has no channels.
    """
    whole, _, part = name.rpartition(".")
    if part in SEPARABLE_PARTS and name not in (layers := named_operations(model)) and whole in layers:
        layer = layers[whole]
        package = keras_package(layer).layers
        if isinstance(layer, (package.SeparableConv2D, package.SeparableConv1D)):
            kernel_name, kind = SEPARABLE_PARTS[part]
            return LayerWeights(
                name, whole, layer, kernel_name, CHANNEL_AXIS[kind], part == "pointwise" and bool(layer.use_bias)
            )
    layer = find_layer(model, name)
    axis = kernel_channel_axis(layer)
    kernel_name = "depthwise_kernel" if is_keras2(layer) and axis == CHANNEL_AXIS["depthwise"] else "kernel"
    has_bias = bool(layer.use_bias) and not getattr(layer, "keeps_bias", False)
    return LayerWeights(name, name, layer, kernel_name, axis, has_bias)


def own_biases(table: LayerTable, model: keras.Model) -> LayerTable:
    """The table of the canonical form of `model` with the biases of `model` itself: training leaves those of folded norms alone."""

    def own(row):
        return dataclasses.replace(row, has_bias=row.has_bias and find_weights(model, row.name).has_bias)

    return dataclasses.replace(table, rows=tuple(map(own, table.rows)))


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
