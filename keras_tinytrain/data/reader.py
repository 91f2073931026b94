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

from keras_tinytrain._npz import opened_npz, remark_on_cut
from keras_tinytrain.data._pictures import find_pictures, read_picture
from keras_tinytrain.data.labels import check_labels
from keras_tinytrain.data.motion import is_motion, network_motion

_VALUES, _LABELS = ("x", "images"), ("y", "labels", "class_id")


@dataclasses.dataclass(frozen=True)
class StoredSamples:
    """Samples and labels as they are stored.

    Args:
        values: (N, ...): uint8 pixels, bool ink, pictures as float32 0..255, or other numbers.
        labels: (N,), integers.
        groups: None, or int64 (N,): samples of one group are near-duplicates.
        white: the stored value that becomes 1.
        is_motion: whether they are recordings of a motion sensor.
        class_names: one for each label from 0; () where they have no names.
    """

    values: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None
    white: int = 1
    is_motion: bool = False
    class_names: tuple[str, ...] = ()

    @property
    def are_pixels(self) -> bool:
        """Whether the stored values are 0..255."""
        return self.white == 255


def unit_values(values: np.ndarray, white: int) -> np.ndarray:
    """Stored values as float32 in the convention of this module; `white` becomes 1."""
    return np.asarray(values, np.float32) / np.float32(white)


def read_npz(path: str | os.PathLike) -> StoredSamples:
    """Read an .npz; which layout it is follows from the names of the arrays.

    Args:
        path: an .npz with `x` or `images` (N, ...) and `y` or `labels` (N,), perhaps with `group` (N,) and `class_names` (K,)
            of text; where `x` is (N, steps, 6) and there is a `meta_json` beside it, a recording of motion; or with
            `images_packed` uint8 (N, ceil(H*W/8)) of row-major bits (1 = ink), `image_hw` (2,) and `class_id` (N,).

    Raises:
        ValueError: it is no .npz, has none of these layouts, or not one integer label for each sample.
        FileNotFoundError: there is no such file.
    """
    path = pathlib.Path(path)
    if path.exists() and not (path.is_file() and zipfile.is_zipfile(path)):
        raise ValueError(f"{path} is neither an .npz file nor a folder of class folders.{remark_on_cut(path)}")
    with opened_npz(path) as arrays:
        values, labels = _values_of(arrays, path), _first(arrays, _LABELS)
        if values is None or labels is None:
            raise ValueError(
                f"{path} needs arrays x (or images) and y (or labels), or images_packed, image_hw and class_id. "
                f"It holds {list(arrays)}."
            )
        groups, motion = _groups(arrays), is_motion(arrays)
        class_names = tuple(map(str, np.ravel(arrays.get("class_names", ()))))
    if values.dtype.kind not in "biuf" or not values.ndim:
        raise ValueError(f"{path}: expected samples (N, ...) of numbers. Received: {values.dtype} {values.shape}.")
    check_labels(labels, len(values), source=str(path))
    white = 255 if values.dtype == np.uint8 else 1
    return StoredSamples(values, labels, groups, white, motion, class_names)


def read_folder(path: str | os.PathLike, *, height: int, width: int, channels: int) -> StoredSamples:
    """Read a folder that holds one folder of pictures per class; labels follow the alphabet.

    Args:
        path: of the folder. PNG, JPEG, BMP and GIF are read, at any depth below a class; hidden files are passed over.
        height, width: pictures are resized bilinearly to so many pixels.
        channels: 1 grey, 3 red, green and blue, 4 with transparency.

    Raises:
        ValueError: there are fewer than two classes, one has no pictures, or a file is no picture that can be read.
    """
    pictures = find_pictures(pathlib.Path(path))
    labels = [label for label, found in enumerate(pictures.values()) for _ in found]
    images = [
        read_picture(file, height=height, width=width, channels=channels) for found in pictures.values() for file in found
    ]
    return StoredSamples(np.stack(images), np.array(labels, np.int32), white=255, class_names=tuple(pictures))


def _values_of(arrays, path):
    if "images_packed" in arrays and "image_hw" in arrays:
        stored, read = (arrays["images_packed"], arrays["image_hw"]), _unpacked
    elif is_motion(arrays):
        stored, read = (arrays["x"], str(arrays["meta_json"])), network_motion
    else:
        return _first(arrays, _VALUES)
    try:
        return read(*stored)
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error


def _unpacked(bits, size):
    height, width = map(int, size)
    return np.unpackbits(bits, axis=1)[:, : height * width].view(bool).reshape(-1, height, width, 1)


def _first(arrays, names):
    return next((arrays[name] for name in names if name in arrays), None)


def _groups(arrays):
    """None where all samples are in one group: then the file does not know which are near-duplicates."""
    groups = arrays.get("group")
    return None if groups is None or np.unique(groups).size < 2 else groups.astype(np.int64)
