"""Checkpoints of meta-training: every variable and how far the training is. A cut while writing leaves the old file."""

import os
import tempfile
from collections.abc import Sequence

import keras
import numpy as np


def save_checkpoint(path: str | os.PathLike, variables: Sequence[keras.Variable], *, settings: str, **progress: int) -> None:
    """Write an .npz that `restore_checkpoint` reads.

    Args:
        path: of the file.
        variables: whose values are kept, in their order.
        settings: all that the training depends on, as text; it is compared when the file is read.
        progress: one number by its name, such as steps=100.
    """
    arrays = {f"v{index}": np.asarray(variable) for index, variable in enumerate(variables)}
    handle, partial = tempfile.mkstemp(suffix=".npz", dir=os.path.dirname(os.path.abspath(path)))
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, settings=settings, **progress, **arrays)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


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
        ValueError: the checkpoint has other settings.
    """
    with np.load(path, allow_pickle=False) as arrays:
        if "settings" not in arrays or str(arrays["settings"]) != settings:
            raise ValueError(f"{path} is not a checkpoint of this {depends_on}. Delete it to start anew.")
        for index, variable in enumerate(variables):
            variable.assign(arrays[f"v{index}"])
        return int(arrays[progress])
