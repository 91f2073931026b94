"""Samples in the model's own convention -> int8, as the device sees them."""

import math

import numpy as np

from keras_tinytrain.export.bundle_folder import ModelInput


def quantise(model_input: ModelInput, x: np.ndarray) -> np.ndarray:
    """x as the device sees it: q = round(x / scale) + zero_point, half to even, clipped to int8."""
    q = np.rint(np.asarray(x, np.float32) / np.float32(model_input["scale"])) + model_input["zero_point"]
    return np.clip(q, -128, 127).astype(np.int8)


def quantise_samples(model_input: ModelInput, x: np.ndarray) -> np.ndarray:
    """`quantise` of samples (N, ...).

    Raises:
        ValueError: they do not have the shape of the model's input, or some value is NaN or infinite.
    """
    x, shape = np.asarray(x, np.float32), (model_input["height"], model_input["width"], model_input["channels"])
    if x.ndim < 2 or (len(x) and x[0].size != math.prod(shape)):
        raise ValueError(f"x expects samples of shape {shape}, with a batch axis. Received shape: {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"x holds {int((~np.isfinite(x)).sum())} values that are NaN or infinite; it expects finite numbers.")
    return quantise(model_input, x)
