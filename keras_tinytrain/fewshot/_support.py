"""Samples of a task, labelled or not, checked before anything is computed with them."""

import keras
import numpy as np
from numpy.typing import ArrayLike


def check_support(backbone: keras.Model, x: ArrayLike, y: ArrayLike) -> int:
    """Number of classes of a support set. Raises ValueError where it cannot be learned from."""
    check_shape(backbone, x)
    x, y = np.asarray(x), np.asarray(y)
    check_labels(y, len(x))
    if not np.isfinite(x).all():
        bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
        raise ValueError(f"Samples {bad[:5].tolist()} contain NaN or infinity.")
    present = np.unique(y)
    if len(present) < 2:
        raise ValueError(f"Expected samples of at least two classes. Received labels {present.tolist()}.")
    if present.tolist() != list(range(len(present))):
        raise ValueError(f"Labels must be 0..K-1 with every class present. Received labels {present.tolist()}.")
    return len(present)


def check_shape(backbone: keras.Model, x: ArrayLike) -> None:
    """Raises ValueError where `x` is no array of samples (N, ...) of the backbone's input."""
    expected = backbone.input_shape[1:]
    if np.ndim(x) == 0:
        raise ValueError(f"Expected an array of samples (N, {', '.join(map(str, expected))}). Received: {type(x).__name__}")
    if np.shape(x)[1:] != expected:
        raise ValueError(f"Samples have shape {np.shape(x)[1:]}, model '{backbone.name}' expects {expected}.")


def check_labels(y: ArrayLike, num_samples: int, num_classes: int | None = None) -> None:
    """Raises ValueError where `y` is not one integer for each sample, or one of them is not below `num_classes`."""
    y = np.asarray(y)
    if y.shape != (num_samples,) or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(
            f"Expected one integer label for each of {num_samples} samples. Received: {y.dtype} of shape {y.shape}."
        )
    if num_classes is not None and len(y) and not (y.min() >= 0 and y.max() < num_classes):
        raise ValueError(f"Expected labels 0..{num_classes - 1}. Received {y.min()}..{y.max()}.")
