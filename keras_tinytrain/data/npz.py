"""Domains from .npz files: images of pixels or packed bits, or recordings of a motion sensor."""

import os
import pathlib

import numpy as np

from keras_tinytrain.data.domain import Domain
from keras_tinytrain.data.reader import read_npz, unit_values


def load_npz(path: str | os.PathLike, *, size: int | None = 32) -> Domain:
    """Read a domain.

    Args:
        path: an .npz in one of the layouts of `reader.read_npz`; images are uint8 pixels, packed bits or floats in [0, 1].
        size: images are resized to size x size pixels; None keeps theirs. Motion is never resized.

    Returns:
        A Domain named after the file, images float32 (N, size, size, C) in [0, 1]; of motion (N, steps, 1, 6).

    Raises:
        ValueError: it is no .npz, has none of these layouts, or its numbers are neither pixels nor in [0, 1].
        FileNotFoundError: there is no such file.
    """
    stored = read_npz(path)
    images = stored.values if stored.is_motion else _images(stored, size, path)
    try:
        return Domain(pathlib.Path(path).stem, images, stored.labels.astype(np.int64), stored.groups)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _images(stored, size, path):
    values = stored.values
    if stored.white == 1 and values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"{path}: images are uint8 pixels, or numbers in [0, 1]. "
            f"Received: {values.dtype} from {values.min():g} to {values.max():g}"
        )
    if size is not None:
        from keras_tinytrain.data.resizing import resize

        values = resize(values, size, size)
    return np.clip(unit_values(values, stored.white), 0, 1)
