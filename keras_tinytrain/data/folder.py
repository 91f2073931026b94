"""Domains from folders of pictures, one folder per class."""

import os
import pathlib

import keras
import numpy as np

from keras_tinytrain.data.domain import Domain


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
    num_classes = sum(entry.is_dir() for entry in path.iterdir())
    if num_classes < 2:
        raise ValueError(f"{path} needs one folder of pictures per class, at least two. Received: {num_classes}")
    colours = "grayscale" if drawings else "rgb"
    pairs = keras.utils.image_dataset_from_directory(
        path, image_size=(size, size), color_mode=colours, batch_size=None, shuffle=False, verbose=False
    )
    images, labels = zip(*((image.numpy(), label.numpy()) for image, label in pairs))
    pixels = np.clip(np.stack(images) / np.float32(255), 0, 1)
    return Domain(path.name, 1 - pixels if drawings else pixels, np.array(labels, np.int64))
