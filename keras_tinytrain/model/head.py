"""Find the head of a classifier in its graph."""

import math
from collections.abc import Sequence

import keras

from keras_tinytrain.model.graph import flatten, walk
from keras_tinytrain.model.layers import CHANNEL_AXIS, LayerInfo, layer_table

_PASSING = ("activation", "identity", "pool", "max_pool", "other")


def classifier_head(model: keras.Model) -> str | None:
    """The name of the layer that makes a classifier's outputs, one a channel; None where the model has no such layer.

    It is the last Dense layer or convolution, if only layers without weights and with one input follow it: activations,
    pooling, Reshape, Flatten, Dropout, scaling. A convolution that is pooled is a head where softmax or sigmoid ends the
    model; else it makes an embedding. A map, a sequence, a sum or a concatenation at the output has no head.

    Args:
        model: a built Functional or Sequential model with one input; nested models are entered.

    Raises:
        ValueError: the model cannot be walked (see `graph.walk`).

    Example:
        >>> classifier_head(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="classes"), keras.layers.Softmax()]))
        'classes'
    """
    flat = flatten(model)
    rows, nodes = list(layer_table(flat)), walk(flat)
    outputs = keras.tree.flatten(flat.outputs)
    index = output = next((index for index, node in enumerate(nodes) if [id(node.output)] == [*map(id, outputs)]), None)
    if index is None or output is None:
        return None
    ending: list[str] = []  # names of activations, the last first
    while _passes(rows[index], nodes[index].layer):
        ending += _activation(nodes[index].layer)
        index = rows[index].inputs[0]
    ending += _activation(nodes[index].layer)
    makes_classes = math.prod(rows[output].output_shape) == rows[index].num_channels
    return rows[index].name if makes_classes and _may_be_head(rows[index], ending) else None


def _passes(row: LayerInfo, layer: keras.layers.Layer) -> bool:
    weightless = row.kind in _PASSING and len(row.inputs) == 1 and not getattr(layer, "weights", [])
    return weightless and not isinstance(layer, keras.layers.UnitNormalization)  # of an embedding


def _may_be_head(row: LayerInfo, ending: Sequence[str]) -> bool:
    pooled = math.prod(row.output_shape) != row.num_channels
    logits = row.kind == "conv" and not pooled and not ending
    return row.kind == "dense" or (row.kind in CHANNEL_AXIS and (logits or ending[0:1] in (["softmax"], ["sigmoid"])))


def _activation(layer: keras.layers.Layer) -> list[str]:
    """The name of the function that a layer applies to each value, [] where it applies none."""
    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", type(layer if function is None else function).__name__.lower())
    return [name] if name != "linear" and hasattr(keras.activations, name) else []
