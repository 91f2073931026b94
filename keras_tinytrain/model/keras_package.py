"""Models of Keras 2 (`tf_keras`): which ones they are, and their Keras 3 twins, on which plans are chosen and deltas taken."""

import sys
import types
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_tinytrain._text import first_paragraph
from keras_tinytrain.model._keras2_graph import keras3_model
from keras_tinytrain.model._keras2_layers import keras3_name


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
        ValueError: a layer exists in Keras 2 only, or the model is subclassed or not built.
    """
    try:
        result = keras3_model(type(model).__name__, model.get_config())
    except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
        raise ValueError(
            f"tf_keras model '{model.name}' has no twin in Keras 3, on which layers are scored: {first_paragraph(error)}"
        ) from error
    copy_weights(model, result)
    return result


def build_sequential(model: Any, x: ArrayLike) -> None:
    """Build a Sequential model of Keras or tf_keras that begins without an Input for samples x (N, ...); others stay as they are."""
    if isinstance(model, keras_package(model).Sequential) and not model.built:
        model.build((None, *np.shape(x)[1:]))


def copy_weights(source: Any, target: Any) -> None:
    """Copy the weights of all layers by name between a model and its twin, in either direction."""
    others = {keras3_name(layer.name): layer for layer in target.layers}
    for layer in source.layers:
        if isinstance(layer, keras_package(layer).Model):
            copy_weights(layer, others[keras3_name(layer.name)])
        elif layer.get_weights():
            others[keras3_name(layer.name)].set_weights(layer.get_weights())
            finalize(others[keras3_name(layer.name)])


def finalize(layer: Any) -> None:
    """To be called once weights of a layer were assigned: a Normalization or Discretization computes by values made of them."""
    for part in getattr(layer, "layers", [layer]):
        if hasattr(part, "finalize_state"):
            part.finalize_state()
