"""Checkpoints of meta-training: every variable and how far the training is. A cut while writing leaves the old file."""

import os
from collections.abc import Sequence

import keras
import numpy as np

from keras_tinytrain._npz import opened_npz, write_npz


def save_checkpoint(path: str | os.PathLike, variables: Sequence[keras.Variable], *, settings: str, **progress: int) -> None:
    """Write an .npz that `restore_checkpoint` reads.

    Args:
        path: of the file.
        variables: whose values are kept, in their order.
        settings: all that the training depends on, as text; it is compared when the file is read.
        progress: one number by its name, such as steps=100.
    """
    arrays = {_name(index): np.asarray(variable) for index, variable in enumerate(variables)}
    write_npz(path, {"settings": np.asarray(settings), **{k: np.asarray(v) for k, v in progress.items()}, **arrays})


def restore_checkpoint(
    path: str | os.PathLike, variables: Sequence[keras.Variable], *, settings: str, progress: str, depends_on: str
) -> int:
    """Set the variables as `save_checkpoint` found them.

    Args:
        path, variables, settings: as given to `save_checkpoint`.
        progress: name of the number to return.
        depends_on: the settings in words, for the error.

    Returns:
        The number called `progress`.

    Raises:
        ValueError: the file is damaged, or the checkpoint has other settings. The variables are as they were.
    """
    with opened_npz(path, "a checkpoint") as arrays:
        if "settings" not in arrays or str(arrays["settings"]) != settings:
            raise ValueError(f"{path} is not a checkpoint of this {depends_on}. Delete it to start anew.")
        values = [arrays.numbers(_name(index), variable.shape) for index, variable in enumerate(variables)]
        done = int(arrays.numbers(progress, ()))
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return done


def _name(index):
    return f"v{index}"
