"""Domains from folders of pictures, one folder per class."""

import os
import pathlib

import numpy as np

from keras_tinytrain.data.domain import Domain
from keras_tinytrain.data.reader import read_folder, unit_values


def load_folder(path: str | os.PathLike, *, size: int = 128, drawings: bool = False) -> Domain:
    """Read a domain from a folder that holds one folder of pictures per class; labels follow the alphabet.

    Args:
        path: of the folder. PNG, JPEG, BMP and GIF are read.
        size: pictures are resized bilinearly to size x size pixels.
        drawings: dark ink on a light background, read as one channel with ink 1; otherwise photographs in colour.

    Returns:
        A Domain named after the folder, images float32 (N, size, size, 3), of drawings (N, size, size, 1), in [0, 1].

    Raises:
        ValueError: there are fewer than two classes, or no pictures.
        FileNotFoundError: there is no such folder.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder {path}.")
    stored = read_folder(path, height=size, width=size, channels=1 if drawings else 3)
    pixels = unit_values(stored.values, stored.white)
    return Domain(path.name, 1 - pixels if drawings else pixels, stored.labels.astype(np.int64))
