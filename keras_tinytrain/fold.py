"""The canonical model: BatchNorm folded into its convolution, fused activations as layers of their own.

Costs, scores, masks, export and device all speak of the same convolution + bias, followed by an activation layer.
"""

import keras
import numpy as np

from keras_tinytrain.graph import rebuild, walk

_FOLDABLE = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """A flat copy of `model` in canonical form; layer names are kept, outputs agree to 1e-5 relative.

    y = gamma * (W x + b - mean) / sqrt(variance + eps) + beta  =  (s W) x + (s (b - mean) + beta),
    s = gamma / sqrt(variance + eps) per output channel.

    A BatchNormalization that does not directly follow a linear convolution or dense layer is left as it is.

    Args:
        model: a built Functional or Sequential model, nested models allowed. It is not changed.

    Returns:
        A Functional model with weights of its own. A layer's fused activation becomes a layer "<name>.activation".
    """
    flat = _separate_activations(model)
    norms = _foldable_norms(flat)
    if not norms:
        return flat
    copies = {}

    def call(layer, *args, **kwargs):
        if layer in norms:
            return args[0]
        copy = copies[layer] = _copy_layer(layer, **({"use_bias": True} if layer in norms.values() else {}))
        return copy(*args, **kwargs)

    folded = rebuild(flat, call)
    norm_of = {conv: norm for norm, conv in norms.items()}
    for layer, copy in copies.items():
        copy.set_weights(_folded_weights(layer, norm_of[layer]) if layer in norm_of else layer.get_weights())
    return folded


def _separate_activations(model):
    """Phase one: flat, with copies of all layers, each activation in a layer of its own."""
    copies = {}

    def call(layer, *args, **kwargs):
        activation = getattr(layer, "activation", None) if isinstance(layer, _FOLDABLE) else None
        fused = activation is not None and activation is not keras.activations.linear
        copy = copies[layer] = _copy_layer(layer, **({"activation": None} if fused else {}))
        output = copy(*args, **kwargs)
        return _activation_layer(activation, f"{layer.name}.activation")(output) if fused else output

    flat = rebuild(model, call)
    for layer, copy in copies.items():
        copy.set_weights(layer.get_weights())
    return flat


def _activation_layer(activation, name):
    if activation is keras.activations.relu:
        return keras.layers.ReLU(name=name)
    if activation is keras.activations.relu6:
        return keras.layers.ReLU(6.0, name=name)
    return keras.layers.Activation(activation, name=name)


def _copy_layer(layer, **changes):
    if not isinstance(layer, keras.layers.Layer):
        return layer  # an operation such as keras.ops.add holds no state
    return layer.__class__.from_config({**layer.get_config(), **changes})


def _foldable_norms(flat):
    """{BatchNormalization: the linear layer it normalises}, where nothing else reads that layer."""
    nodes = walk(flat)
    readers = [index for node in nodes for index in node.inputs]
    return {
        node.layer: nodes[node.inputs[0]].layer
        for node in nodes
        if isinstance(node.layer, keras.layers.BatchNormalization)
        and isinstance(nodes[node.inputs[0]].layer, _FOLDABLE)
        and readers.count(node.inputs[0]) == 1
        and node.layer.axis in (-1, len(node.output.shape) - 1)
    }


def _folded_weights(layer, norm):
    """[kernel, bias] of `layer` followed by `norm`, computed in float64."""
    kernel, *bias = [np.asarray(weight, np.float64) for weight in layer.get_weights()]
    bias = bias[0] if bias else np.zeros(norm.moving_mean.shape)
    gamma = np.asarray(norm.gamma, np.float64) if norm.scale else 1.0
    beta = np.asarray(norm.beta, np.float64) if norm.center else 0.0
    scale = gamma / np.sqrt(np.asarray(norm.moving_variance, np.float64) + norm.epsilon)
    folded_bias = scale * (bias - np.asarray(norm.moving_mean, np.float64)) + beta
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        scale = scale.reshape(kernel.shape[2:])
    return [(kernel * scale).astype(np.float32), folded_bias.astype(np.float32)]
