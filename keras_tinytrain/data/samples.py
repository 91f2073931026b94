"""Labelled samples for a model, from a file or a folder, checked before anything is computed with them."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_tinytrain.data.labels import check_classes
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


def read_samples(path: str | os.PathLike, input_shape: Sequence[int]) -> StoredSamples:
    """Samples as they are stored, of the model's shape, with labels 0..K-1. Raises as `load_samples`."""
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There are no samples at {path}.")
    stored = _from_folder(path, input_shape) if path.is_dir() else read_npz(path)
    if stored.values.shape[1:] != tuple(input_shape):
        raise ValueError(f"{path} holds samples of shape {stored.values.shape[1:]}, the model expects {tuple(input_shape)}.")
    check_classes(stored.labels, source=str(path))
    return stored


def _from_folder(path, input_shape):
    if len(input_shape) != 3 or input_shape[-1] not in (1, 3, 4):
        expected = tuple(input_shape)
        raise ValueError(f"A folder of pictures fits inputs of 1, 3 or 4 channels; the model expects {expected}. Use an .npz.")
    height, width, channels = input_shape
    return read_folder(path, height=height, width=width, channels=channels)
