"""Weights that Keras 2 wrote into a file, put into a Keras 3 model of the same layers."""

import re
from collections.abc import Sequence
from typing import Any

import h5py
import keras
import numpy as np

from keras_tinytrain.model._keras2_layers import keras3_name
from keras_tinytrain.model.keras_package import finalize


def load_h5_weights(model: keras.Model, group: h5py.Group) -> None:
    """Weights of an .h5 file: for each layer of the model a list of them, those of a nested model in one list.

    Args:
        model: what `_keras2_graph.keras3_model` built from the configuration in the same file.
        group: "model_weights" of the file.

    Raises:
        ValueError: the file holds other layers or shapes than the model.
    """
    for name in map(_text, group.attrs["layer_names"]):
        stored = [np.asarray(group[name][_text(weight)]) for weight in group[name].attrs["weight_names"]]
        if stored:
            assign_weights(model.get_layer(keras3_name(name)), stored)


def assign_weights(layer: keras.layers.Layer, stored: Sequence[np.ndarray]) -> None:
    """Give a layer, or a nested model, its weights in the order of Keras 2: trainable ones first.

    Raises:
        ValueError: there are other shapes than the layer has.
    """
    variables = [*layer.trainable_weights, *layer.non_trainable_weights]
    shapes = [tuple(variable.shape) for variable in variables], [np.shape(value) for value in stored]
    if shapes[0] != shapes[1]:
        raise ValueError(f"Layer '{layer.name}' has weights of shapes {shapes[0]}, the file holds {shapes[1]}.")
    for variable, value in zip(variables, stored):
        variable.assign(value)
    finalize(layer)


def load_keras_weights(model: keras.Model, config: Any, group: h5py.Group) -> None:
    """Weights of a .keras file: a layer is found by its class, and its place among those of its class.

    Args:
        model: what `_keras2_graph.keras3_model` built from `config`.
        group: the whole of model.weights.h5.

    Raises:
        ValueError: the file holds other layers or shapes than the model.
    """
    num_before: dict[str, int] = {}
    for entry in config["layers"]:
        kind = _snake_case(entry["class_name"])
        number = num_before[kind] = num_before.get(kind, -1) + 1
        place = f"layers/{kind}_{number}" if number else f"layers/{kind}"
        if place not in group or not _holds_weights(group[place]):
            continue
        layer = model.get_layer(keras3_name(entry["config"]["name"]))
        if isinstance(layer, keras.Model):
            load_keras_weights(layer, entry["config"], group[place])
        else:
            _load_layer(layer, group[place])


def _load_layer(layer, group):
    """The weights of a layer, and of the layers that it holds as attributes."""
    if len(group["vars"]):
        layer.load_own_variables(group["vars"])
    for key in group:
        if key != "vars" and _holds_weights(group[key]):
            _load_layer(getattr(layer, key), group[key])


def _holds_weights(group):
    return any(isinstance(part, h5py.Dataset) or _holds_weights(part) for part in group.values())


def _snake_case(class_name):
    """As Keras 2 names the groups of a .keras file."""
    return re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", class_name)).lower()


def _text(name):
    return name.decode() if isinstance(name, bytes) else name
