"""Weights of NanoNet and GestureNet as the package ships them: an .npz of float16, with its provenance in a .json beside it."""

import os
import pathlib

import keras
import numpy as np

from keras_tinytrain._npz import opened_npz, write_npz

WEIGHTS_FOLDER = pathlib.Path(__file__).parent / "weights"  # those that come with the package


def check_weights(weights: str | os.PathLike | None, batch_norm: bool) -> None:
    """Raise ValueError where stored weights are asked for in the training form, which they do not fit."""
    if batch_norm and weights is not None:
        raise ValueError(f"Weights are stored with BatchNorm folded: batch_norm=True needs weights=None. Received: {weights!r}")


def save_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Write kernels and biases of a model without BatchNorm as float16 arrays "<layer>/kernel" and "<layer>/bias".

    Args:
        model: of `small_network(batch_norm=False)`, or a folded one. The inverse is `load_weights`, up to rounding to
            float16.
        path: the .npz to write.
    """
    arrays = {f"{layer.name}/{_role(v)}": np.asarray(v, np.float16) for layer in model.layers for v in layer.weights}
    write_npz(path, arrays, compressed=True)


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Set kernels and biases by layer name from an .npz of `save_weights`; float16 values are loaded as float32.

    Raises:
        ValueError: the file is damaged or lacks an array, or one has another shape than the model's. The model is as it was.
        FileNotFoundError: there is no such file.
    """
    variables = {f"{layer.name}/{_role(variable)}": variable for layer in model.layers for variable in layer.weights}
    with opened_npz(path, "an .npz of weights") as arrays:
        values = {key: arrays.numbers(key, variable.shape) for key, variable in variables.items()}
    for key, variable in variables.items():
        variable.assign(values[key].astype(np.float32))


def _role(variable):
    return variable.path.rsplit("/", 1)[-1]
