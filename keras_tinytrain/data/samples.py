"""Labelled samples for a model, from a file or a folder, checked before anything is computed with them."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_tinytrain.data.labels import check_classes, check_labels
from keras_tinytrain.data.reader import StoredSamples, read_folder, read_npz, unit_values

_SMALLEST_SCALE = 1 / 16  # of pixels 0..1: a smaller one was made for pixels 0..255


def load_samples(
    path: str | os.PathLike, input_shape: Sequence[int], *, scale: float = 1.0, offset: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Samples x * scale + offset and their labels 0..K-1.

    Args:
        path: an .npz with arrays x (N, ...) and y (N,) or another layout of `reader.read_npz`; or a folder with one folder of
            pictures per class, in alphabetical order (PNG, JPEG, BMP, GIF; resized to the model's input).
        input_shape: the shape of one sample that the model expects.
        scale, offset: map the values to the model's input convention. Pixels (uint8 arrays and pictures) are 0..1 before that,
            other numbers as they are stored: a model that takes 0..255 wants scale 255, one that takes -1..1 scale 2 and
            offset -1.

    Returns:
        x float32 (N, *input_shape), y int32 (N,).

    Raises:
        ValueError: no such arrays, another shape, NaN, labels that are not 0..K-1, fewer than two classes, or pixels with a
            scale that was made for 0..255.
        FileNotFoundError: there is no such file or folder.
    """
    return model_inputs(read_samples(path, input_shape), path, scale=scale, offset=offset)


def model_inputs(
    stored: StoredSamples, path: str | os.PathLike, *, scale: float, offset: float
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of what `read_samples` read from `path`; see `load_samples`."""
    if stored.are_pixels and 0 < abs(scale) < _SMALLEST_SCALE:
        raise ValueError(
            f"{path} holds pixels, which are 0..1 before scale {scale:g} is applied (in version 0.1 they were 0..255). "
            "Leave the scale out, or multiply it by 255."
        )
    if not np.isfinite([scale, offset]).all():
        raise ValueError(f"Expected numbers as scale and offset. Received: {scale} and {offset}")
    x = unit_values(stored.values, stored.white)
    if not np.isfinite(x).all():
        raise ValueError(f"{path}: {int((~np.isfinite(x)).sum())} values are NaN or infinite. Remove those samples.")
    return x * np.float32(scale) + np.float32(offset), stored.labels.astype(np.int32)


def read_samples(
    path: str | os.PathLike, input_shape: Sequence[int], *, num_classes: int | None = None, class_names: Sequence[str] = ()
) -> StoredSamples:
    """Samples as they are stored, of the model's shape.

    Args:
        path, input_shape: as for `load_samples`. Axes of length 1 may be there or not.
        num_classes: that are known; None: the samples say which there are, and their labels are 0..K-1.
        class_names: of the known classes: the labels of samples with class names are found by these.

    Raises:
        ValueError, FileNotFoundError: as `load_samples`, or a class is not known.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There are no samples at {path}.")
    stored = _of_shape(_from_folder(path, input_shape) if path.is_dir() else read_npz(path), path, tuple(input_shape))
    if num_classes is None:
        check_classes(stored.labels, source=str(path))
        return stored
    return _of_known_classes(stored, path, num_classes, tuple(class_names))


def _of_shape(stored, path, expected):
    """`stored` with samples of the expected shape: a device takes features (33,) as an image (1, 1, 33)."""
    shape = stored.values.shape[1:]
    if [size for size in shape if size != 1] != [size for size in expected if size != 1]:
        raise ValueError(f"{path} holds samples of shape {shape}, the model expects {expected}.")
    return dataclasses.replace(stored, values=stored.values.reshape(-1, *expected))


def _of_known_classes(stored, path, num_classes, class_names):
    """`stored` with labels below `num_classes`, by the names of the classes where both have names."""
    labels = stored.labels
    if stored.class_names and class_names:
        if unknown := set(stored.class_names).difference(class_names):
            raise ValueError(f"{path} holds classes {sorted(unknown)}; those that are known: {', '.join(class_names)}.")
        labels = np.array([class_names.index(name) for name in stored.class_names])[labels]
    check_labels(labels, len(labels), num_classes, source=str(path), is_exported=True)
    return dataclasses.replace(stored, labels=labels, class_names=class_names or stored.class_names)


def _from_folder(path, input_shape):
    if len(input_shape) != 3 or input_shape[-1] not in (1, 3, 4):
        expected = tuple(input_shape)
        raise ValueError(f"A folder of pictures fits inputs of 1, 3 or 4 channels; the model expects {expected}. Use an .npz.")
    height, width, channels = input_shape
    return read_folder(path, height=height, width=width, channels=channels)
