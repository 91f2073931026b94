"""A support set: the labelled samples of a task, checked before anything is learned from them."""

import keras
import numpy as np


def check_support(backbone: keras.Model, x, y) -> int:
    """Number of classes of a support set. Raises ValueError where it cannot be learned from."""
    x, y = np.asarray(x), np.asarray(y)
    if x.shape[1:] != backbone.input_shape[1:]:
        raise ValueError(f"Samples have shape {x.shape[1:]}, model '{backbone.name}' expects {backbone.input_shape[1:]}.")
    if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"Expected one integer label for each of {len(x)} samples. Received: {y.dtype} of shape {y.shape}.")
    if not np.isfinite(x).all():
        bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
        raise ValueError(f"Samples {bad[:5].tolist()} contain NaN or infinity.")
    present = np.unique(y)
    if len(present) < 2:
        raise ValueError(f"Expected samples of at least two classes. Received labels {present.tolist()}.")
    if present.tolist() != list(range(len(present))):
        raise ValueError(f"Labels must be 0..K-1 with every class present. Received labels {present.tolist()}.")
    return len(present)
