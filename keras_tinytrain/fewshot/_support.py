"""Samples of a task, labelled or not, checked before anything is computed with them."""

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_tinytrain.data.labels import check_classes, check_labels


def check_support(backbone: keras.Model, x: ArrayLike, y: ArrayLike) -> int:
    """Number of classes of a support set. Raises ValueError where it cannot be learned from."""
    check_shape(backbone, x)
    x, y = np.asarray(x), np.asarray(y)
    check_labels(y, len(x))
    check_finite(x)
    return check_classes(y)


def check_finite(x: ArrayLike) -> None:
    """Raises ValueError where a sample of x (N, ...) holds NaN or infinity, as float32."""
    with np.errstate(over="ignore"):
        finite = np.isfinite(np.asarray(x, np.float32))
    if not finite.all():
        bad = np.flatnonzero(~finite.reshape(len(finite), -1).all(axis=1))
        raise ValueError(f"Samples {bad[:5].tolist()} contain NaN or infinity.")


def check_shape(backbone: keras.Model, x: ArrayLike) -> None:
    """Raises ValueError where `x` is no array of samples (N, ...) of the backbone's input."""
    expected = backbone.input_shape[1:]
    if np.ndim(x) == 0:
        raise ValueError(f"Expected an array of samples (N, {', '.join(map(str, expected))}). Received: {type(x).__name__}")
    if np.shape(x)[1:] != expected:
        raise ValueError(f"Samples have shape {np.shape(x)[1:]}, model '{backbone.name}' expects {expected}.")
