"""The canonical model: BatchNorm folded into its convolution, fused activations as layers of their own.

Costs, scores, masks, export and device all speak of the same convolution + bias, followed by an activation layer. It computes
in single precision at least, and layers that do nothing outside training, such as augmentation, are not in it.
"""

import inspect

import keras
import numpy as np

from keras_tinytrain._text import keras_reason
from keras_tinytrain.model._pairwise import pairwise
from keras_tinytrain.model._relu_first import late_relus, relu_first
from keras_tinytrain.model._separable import separate_convolutions
from keras_tinytrain.model._silu import is_silu, separate_silu
from keras_tinytrain.model._two_dimensional import two_dimensional
from keras_tinytrain.model.graph import flatten, rebuild, walk
from keras_tinytrain.model.keras_package import finalize
from keras_tinytrain.model.private_keras import renamed

_FOLDABLE = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
_OBJECTS = ("_initializer", "_regularizer", "_constraint")  # ends of arguments that a class of the user's may fill


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """A flat copy of `model` in canonical form; layer names are kept, outputs agree to 1e-5 relative.

    With s = gamma / sqrt(variance + eps) and t = beta - s * mean, per channel, BN(x) = s x + t, so that

        after a layer:   BN(W x + b) = (s W) x + (s b + t)
        before a layer:  W BN(x) + b = (W s) x + (W t + b)

    A layer that does nothing outside training, such as RandomFlip, is left out (Dropout stays), and so is mixed precision. One
    that does something else in training, such as RandomCrop, does what it does outside.
    Convolutions and pooling over sequences become those over images of height 1, under their names. A
    separable convolution becomes its two convolutions, "<name>.depthwise" and "<name>.pointwise", and SiLU a product with
    "<name>.sigmoid". A ReLU after hard SiLU or PReLU comes before it.

    Dropout between a BatchNormalization and such a layer does nothing outside training, so they are folded all the same. A
    BatchNormalization stays where folding is not exact: no such layer is next to it, something else reads the tensor between the
    two, or it comes before a layer that pads with zeros.

    Args:
        model: a built Functional or Sequential model, nested models allowed. It is not changed.

    Returns:
        A Functional model with weights of its own. A layer's fused activation becomes a layer "<name>.activation".

    Raises:
        ValueError: the model is not built, subclassed, has several inputs or a layer that is called twice.
    """
    flat = _unfolded(model)
    if any(_is_fused(layer) for layer in flat.layers):
        flat = _separate_activations(flat)
    flat = separate_silu(relu_first(flat))
    after, before = _foldable_norms(flat)
    left_out = [*after.values(), *before.values(), *_idle_layers(flat)]
    copies = {}

    def call(layer, *args, **kwargs):
        if layer in left_out:
            return args[0]
        biased = {"use_bias": True} if layer in after or layer in before else {}
        copy = copies[layer] = _copy_layer(layer, **biased)
        return copy(*args, **{**kwargs, **_for_inference(layer)})

    folded = rebuild(flat, call)
    for layer, copy in copies.items():
        _set_weights(copy, _folded_weights(layer, before.get(layer), after.get(layer)))
    return folded


def canonical_form(model: keras.Model) -> keras.Model:
    """`fold_batch_norm(model)`; where that would change nothing `model` flattened, which shares its layers: only to be read."""
    flat = _unfolded(model)
    changes = any(_is_fused(layer) or is_silu(layer) or _wider(layer) or _for_inference(layer) for layer in flat.layers)
    if changes or any(_foldable_norms(flat)) or _idle_layers(flat) or late_relus(flat):
        return fold_batch_norm(model)
    return flat


def _unfolded(model):
    """The flat model in the layers that the device knows, before norms are folded and activations separated."""
    return pairwise(two_dimensional(separate_convolutions(flatten(model))))


def _idle_layers(flat):
    """The layers that give back their input outside training: augmentation and noise; Dropout is known to all and stays."""
    nodes = walk(flat)
    return [node.layer for node in nodes if len(node.inputs) == 1 and _is_idle(node.layer, nodes[node.inputs[0]].output)]


def _is_idle(layer, source):
    if not isinstance(layer, keras.layers.Layer) or isinstance(layer, keras.layers.Dropout) or layer.weights:
        return False
    if "training" not in inspect.signature(layer.call).parameters or not keras.backend.is_float_dtype(source.dtype):
        return False
    shape = [8 if size is None else size for size in source.shape]
    x = np.random.default_rng(0).normal(0, 100, shape).astype(layer.compute_dtype)
    output = np.asarray(layer(x, training=False))
    return output.shape == x.shape and np.array_equal(output, x)


def _for_inference(layer):
    """The argument without which a layer, such as RandomCrop, does what it does in training."""
    training = inspect.signature(layer.call).parameters.get("training") if isinstance(layer, keras.layers.Layer) else None
    return {"training": False} if training and training.default is True else {}


def _is_fused(layer):
    activation = getattr(layer, "activation", None) if isinstance(layer, _FOLDABLE) else None
    return activation is not None and activation is not keras.activations.linear


def _separate_activations(model):
    """Copies of all layers of a flat model, each fused activation in a layer of its own."""
    copies = {}

    def call(layer, *args, **kwargs):
        fused = _is_fused(layer)
        copy = copies[layer] = _copy_layer(layer, **({"activation": None} if fused else {}))
        output = copy(*args, **kwargs)
        return _activation_layer(layer.activation, f"{layer.name}.activation")(output) if fused else output

    flat = rebuild(model, call)
    for layer, copy in copies.items():
        _set_weights(copy, _weights(layer))
    return flat


def _activation_layer(activation, name):
    if activation is keras.activations.relu:
        return keras.layers.ReLU(name=name)
    if activation is keras.activations.relu6:
        return keras.layers.ReLU(6.0, name=name)
    if activation is keras.activations.leaky_relu:
        return keras.layers.LeakyReLU(0.2, name=name)
    return keras.layers.Activation(activation, name=name)


def _copy_layer(layer, **changes):
    """A copy of a layer, its weights yet to be set; one without weights is shared. It computes in single precision at least."""
    if not isinstance(layer, keras.layers.Layer):
        return layer  # an operation such as keras.ops.add holds no state
    if not (layer.weights or changes):
        return renamed(layer, layer.name, **_wider(layer))
    try:
        config = layer.get_config()
        objects = {key: getattr(layer, key) for key in config if key.endswith(_OBJECTS) and hasattr(layer, key)}
        return layer.__class__.from_config({**config, **objects, **_wider(layer), **changes})
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"Layer '{layer.name}', a {type(layer).__name__}, cannot be copied by its get_config(): {keras_reason(error)}"
        ) from error


def _wider(layer):
    """The changed argument of a layer that computes in half precision."""
    return {"dtype": "float32"} if layer.compute_dtype in ("float16", "bfloat16") else {}


def _weights(layer):
    return layer.get_weights() if isinstance(layer, keras.layers.Layer) else []


def _set_weights(layer, weights):
    if weights:
        layer.set_weights(weights)
        finalize(layer)


def _foldable_norms(flat):
    """({layer: the norm after it}, {layer: the norm before it}), where nothing else reads the tensor between them."""
    nodes = walk(flat)
    readers = [index for node in nodes for index in node.inputs]
    after, before = {}, {}
    for node in nodes:
        source = _sole_source(nodes, readers, node)
        if source is None:
            continue
        if _is_norm(node) and _takes_norm(source.layer):
            after[source.layer] = node.layer
        elif _is_norm(source) and _takes_norm_before(node.layer) and source.layer not in after.values():
            before[node.layer] = source.layer
    return after, before


def _sole_source(nodes, readers, node):
    """The node that `node` alone reads, through dropout, which does nothing outside training; None where there is none."""
    while node.inputs and readers.count(node.inputs[0]) == 1:
        node = nodes[node.inputs[0]]
        if not isinstance(node.layer, keras.layers.Dropout):
            return node
    return None


def _is_norm(node):
    return isinstance(node.layer, keras.layers.BatchNormalization) and node.layer.axis in (-1, len(node.output.shape) - 1)


def _takes_norm(layer):
    return isinstance(layer, _FOLDABLE) and getattr(layer, "data_format", "channels_last") == "channels_last"


def _takes_norm_before(layer):
    """Zero padding is no longer the norm's zero once the norm is folded, so there may be none."""
    if not _takes_norm(layer) or isinstance(layer, keras.layers.Dense):
        return _takes_norm(layer)
    return getattr(layer, "groups", 1) == 1 and (layer.padding == "valid" or set(layer.kernel_size) == {1})


def _folded_weights(layer, before, after):
    """[kernel, bias] of `layer` between its norms, computed in float64; its own weights where it has none."""
    if before is None and after is None:
        return _weights(layer)
    kernel, *biases = [np.asarray(weight, np.float64) for weight in layer.get_weights()]
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    num_outputs = kernel.shape[-2] * kernel.shape[-1] if depthwise else kernel.shape[-1]
    bias = biases[0] if biases else np.zeros(num_outputs)
    if before is not None:
        scale, shift = (part[:, None] for part in scale_and_shift(before))
        spatial = tuple(range(kernel.ndim - 2))
        axes = spatial if depthwise else (*spatial, -2)
        kernel, bias = kernel * scale, bias + np.sum(kernel * shift, axis=axes).reshape(-1)
    if after is not None:
        scale, shift = scale_and_shift(after)
        kernel, bias = kernel * (scale.reshape(kernel.shape[-2:]) if depthwise else scale), bias * scale + shift
    return [kernel.astype(layer.kernel.dtype), bias.astype(layer.kernel.dtype)]


def scale_and_shift(norm):
    """s = gamma / sqrt(variance + eps), t = beta - s * mean, float64 (channels,)."""
    gamma = _float64(norm.gamma) if norm.scale else 1.0
    beta = _float64(norm.beta) if norm.center else 0.0
    scale = gamma / np.sqrt(_float64(norm.moving_variance) + norm.epsilon)
    return scale, beta - scale * _float64(norm.moving_mean)


def _float64(variable):
    return variable.numpy().astype(np.float64)
