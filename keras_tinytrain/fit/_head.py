"""The head of a `fit`: the layer that every chosen plan trains whole, or why there is none."""

from collections.abc import Collection
from typing import Any

import keras
import numpy as np

from keras_tinytrain.fit._new_head import class_numbers
from keras_tinytrain.model.head import classifier_head
from keras_tinytrain.model.layers import layer_table


def head_of(
    model: keras.Model, asked: str | None, x: np.ndarray, y: Any, frozen: Collection[str] = ()
) -> tuple[str | None, str]:
    """(name of the layer that every plan trains whole, ""), or (None, why there is none; "" where the user wants none).

    Each unit of a head is a class or a target of its own, so that training some of them would leave the others as they were.
    The units of an autoencoder give back its input together, and it was trained before: it has no head.

    Args:
        model: a built Keras 3 model.
        asked: the layer's name; "auto" finds it; None: the user wants none.
        x: samples (N, ...).
        y: targets as `fit` takes them.
        frozen: names of layers that the user has frozen.

    Raises:
        ValueError: the layer that is asked for does not exist, or cannot be trained.
    """
    if asked != "auto":
        return asked and layer_table(model).candidates(layers=[asked])[0].name, ""
    if y is None or _like_samples(x, y):
        return None, "there are no targets" if y is None else "targets have the samples' shape, as an autoencoder's"
    name = classifier_head(model)
    if name is None:
        return None, "the output is not the channels of one layer"
    if name in frozen:
        return None, f"'{name}' has trainable=False"
    if reason := layer_table(model)[name].reason:
        return None, f"'{name}' cannot be trained here ({reason})"
    return name, ""


def _like_samples(x, y):
    """Whether targets have as many values as samples, more than one, and are not classes, one-hot."""
    size = np.size(x) // len(x)
    return size > 1 and [np.size(each) for each in keras.tree.flatten(y)] == [np.size(x)] and class_numbers(y, size) is None
