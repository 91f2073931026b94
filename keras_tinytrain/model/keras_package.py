"""Models of Keras 2 (`tf_keras`): which ones they are, and their Keras 3 twins, on which plans are chosen and deltas taken."""

import sys
import types
from typing import Any

import keras

from keras_tinytrain.model.graph import find_layer
from keras_tinytrain.model.private_keras import FUNCTIONAL_MODULE, all_layers


def keras_package(thing: Any) -> types.ModuleType:
    """The module that `thing`, a model or a layer, comes from: `tf_keras` or `keras`. Imports neither."""
    tf_keras = sys.modules.get("tf_keras")
    return tf_keras if tf_keras and isinstance(thing, tf_keras.layers.Layer) else keras


def is_keras2(thing: Any) -> bool:
    """Whether `thing`, a model or a layer, is one of tf_keras."""
    return keras_package(thing) is not keras


def twin(model: Any) -> keras.Model:
    """A Keras 3 model of the same layers, names and weights (copies) as `model`, a Functional or Sequential model
    of tf_keras.

    Raises:
        ValueError: a layer exists in Keras 2 only, or the model is subclassed.
    """
    package = keras_package(model)
    build = keras.Sequential if isinstance(model, package.Sequential) else keras.Model
    try:
        result = build.from_config(_translated(model.get_config()))
    except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"tf_keras model '{model.name}' has no twin in Keras 3, on which layers are scored: {reason} "
            "Build it of layers that both have, Functional or Sequential."
        ) from error
    copy_weights(model, result)
    return result


def copy_weights(source: Any, target: Any) -> None:
    """Copy the weights of all layers by name between a model and its twin, in either direction."""
    for layer in all_layers(source):
        if layer.get_weights() and not isinstance(layer, keras_package(source).Model):
            find_layer(target, layer.name).set_weights(layer.get_weights())


def _translated(config):
    """A Keras 2 configuration as Keras 3 reads it."""
    if isinstance(config, (list, tuple)):
        return [_translated(value) for value in config]
    if not isinstance(config, dict):
        return config
    config = {key: _translated(value) for key, value in config.items()}
    own = config.get("config")
    match config.get("class_name"):
        case "DepthwiseConv2D":
            own.pop("groups", None)
        case "BatchNormalization" if isinstance(own["axis"], list):
            (own["axis"],) = own["axis"]
        case "Functional":  # a model inside a model
            config["module"] = FUNCTIONAL_MODULE
            own.update({end: own[end][0] for end in ("input_layers", "output_layers") if len(own[end]) == 1})
    return config
