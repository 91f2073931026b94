"""Labelled samples as a file or a folder holds them, and the one convention of their values.

Pixels become 0..1: uint8 arrays and pictures are divided by 255, packed bits are 0 and 1, all float32. Any other numbers are
taken as they stand, recordings of a motion sensor in the units of `motion.network_motion`. `load_npz`, `load_folder` and
`load_samples` all read through this module, so that the same file gives the same values to a benchmark and to a board.

Version 0.1 left the pixels of `load_samples` at 0..255. The networks of `backbones`, the domains and the benchmarks speak of
0..1, so one file meant two pictures, one of them 255 times as bright. `load_samples` refuses a scale that was made for 0..255.
"""

import dataclasses
import os
import pathlib
import zipfile

import numpy as np

from keras_tinytrain.data.labels import check_labels
from keras_tinytrain.data.motion import is_motion, network_motion

_VALUES, _LABELS = ("x", "images"), ("y", "labels", "class_id")
_COLOURS = {1: "grayscale", 3: "rgb", 4: "rgba"}


@dataclasses.dataclass(frozen=True)
class StoredSamples:
    """Samples and labels as they are stored.

    Args:
        values: (N, ...): uint8 pixels, bool ink, pictures as float32 0..255, or other numbers.
        labels: (N,), integers.
        groups: None, or int64 (N,): samples of one group are near-duplicates.
        white: the stored value that becomes 1.
        is_motion: whether they are recordings of a motion sensor.
    """

    values: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None
    white: int = 1
    is_motion: bool = False

    @property
    def are_pixels(self) -> bool:
        """Whether the stored values are 0..255."""
        return self.white == 255


class _ObjectsError(ValueError):
    """An array that could not be read without executing what its file says."""


def unit_values(values: np.ndarray, white: int) -> np.ndarray:
    """Stored values as float32 in the convention of this module; `white` becomes 1."""
    return np.asarray(values, np.float32) / np.float32(white)


def read_npz(path: str | os.PathLike) -> StoredSamples:
    """Read an .npz; which layout it is follows from the names of the arrays.

    Args:
        path: an .npz with `x` or `images` (N, ...) and `y` or `labels` (N,), perhaps with `group` (N,); where `x` is
            (N, steps, 6) and there is a `meta_json` beside it, a recording of motion; or with `images_packed` uint8
            (N, ceil(H*W/8)) of row-major bits (1 = ink), `image_hw` (2,) and `class_id` (N,).

    Raises:
        ValueError: it is no .npz, has none of these layouts, or not one integer label for each sample.
        FileNotFoundError: there is no such file.
    """
    path = pathlib.Path(path)
    if path.exists() and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is neither an .npz file nor a folder of class folders.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values, labels = _values_of(arrays), _first(arrays, _LABELS)
            if values is None or labels is None:
                raise ValueError(
                    f"{path} needs arrays x (or images) and y (or labels), or images_packed, image_hw and class_id. "
                    f"It holds {arrays.files}."
                )
            groups, motion = _groups(arrays), is_motion(arrays)
    except _ObjectsError as error:
        raise ValueError(f"{path}: {error}") from error
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    check_labels(labels, len(values), source=str(path))
    return StoredSamples(values, labels, groups, white=255 if values.dtype == np.uint8 else 1, is_motion=motion)


def read_folder(path: str | os.PathLike, *, height: int, width: int, channels: int) -> StoredSamples:
    """Read a folder that holds one folder of pictures per class; labels follow the alphabet.

    Args:
        path: of the folder. PNG, JPEG, BMP and GIF are read, by Keras.
        height, width: pictures are resized bilinearly to so many pixels.
        channels: 1 grey, 3 red, green and blue, 4 with transparency.

    Raises:
        ValueError: there are fewer than two classes, or no pictures.
    """
    import keras

    path = pathlib.Path(path)
    num_classes = sum(entry.is_dir() for entry in path.iterdir())
    if num_classes < 2:
        raise ValueError(f"{path} needs one folder of pictures per class, at least two. Received: {num_classes}")
    pairs = keras.utils.image_dataset_from_directory(
        path,
        image_size=(height, width),
        color_mode=_COLOURS[channels],
        batch_size=None,
        shuffle=False,
        verbose=False,
    )
    images, labels = zip(*((image.numpy(), label.numpy()) for image, label in pairs), strict=True)
    return StoredSamples(np.clip(np.stack(images), 0, 255), np.array(labels), white=255)


def _values_of(arrays):
    if "images_packed" in arrays and "image_hw" in arrays:
        height, width = arrays["image_hw"]
        bits = np.unpackbits(arrays["images_packed"], axis=1)[:, : height * width]
        return bits.view(bool).reshape(-1, height, width, 1)
    if is_motion(arrays):
        return network_motion(arrays["x"], str(arrays["meta_json"]))
    return _first(arrays, _VALUES)


def _first(arrays, names):
    name = next((name for name in names if name in arrays), None)
    try:
        return None if name is None else arrays[name]
    except ValueError as error:  # NumPy would have to unpickle it
        raise _ObjectsError(
            f"array {name} holds Python objects. Save numbers: images of one size, integer labels, which "
            "np.unique(names, return_inverse=True)[1] makes of names."
        ) from error


def _groups(arrays):
    """None where all samples are in one group: then the file does not know which are near-duplicates."""
    groups = arrays.get("group")
    return None if groups is None or np.unique(groups).size < 2 else groups.astype(np.int64)
