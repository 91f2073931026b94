"""Labelled samples from a file or a folder, checked before anything is computed with them."""

import os
import pathlib

import numpy as np

from keras_tinytrain.data.motion import is_motion, network_motion

_X_NAMES, _Y_NAMES = ("x", "images"), ("y", "labels")


def load_samples(path: str | os.PathLike, input_shape, *, scale: float = 1.0, offset: float = 0.0):
    """Samples x * scale + offset and their labels 0..K-1.

    Args:
        path: an .npz with arrays x (N, ...) and y (N,), also called images and labels (of a motion sensor see
            `motion.network_motion`); or a folder with one folder of images per
            class, in alphabetical order (PNG, JPEG, BMP, GIF; resized to the model's input, pixels 0..255).
        input_shape: what the model expects of one sample.
        scale, offset: map the stored values to the model's input convention, for instance 1/255 and 0.

    Returns:
        x float32 (N, *input_shape), y int32 (N,).

    Raises:
        ValueError: no such arrays, another shape, NaN, labels that are not integers, fewer than two classes.
        FileNotFoundError: there is no such file or folder.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There are no samples at {path}.")
    x, y = _from_folder(path, input_shape) if path.is_dir() else _from_npz(path)
    x = np.asarray(x, np.float32)
    if x.shape[1:] != tuple(input_shape):
        raise ValueError(f"{path} holds samples of shape {x.shape[1:]}, the model expects {tuple(input_shape)}.")
    if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"{path}: expected one integer label for each of {len(x)} samples. Received: {y.dtype} {y.shape}.")
    if not np.isfinite(x).all():
        raise ValueError(f"{path}: {int((~np.isfinite(x)).sum())} values are NaN or infinite. Remove those samples.")
    if np.unique(y).size < 2:
        raise ValueError(f"{path}: all {len(y)} samples have label {y[0]}; at least two classes are needed.")
    if y.min() < 0 or np.unique(y).size != y.max() + 1:
        raise ValueError(f"{path}: labels must be 0..K-1 with every class present. Received {np.unique(y).tolist()}.")
    return x * np.float32(scale) + np.float32(offset), y.astype(np.int32)


def _from_npz(path):
    try:
        arrays = np.load(path, allow_pickle=False)
        names = arrays.files
    except (ValueError, AttributeError, OSError) as error:
        raise ValueError(f"{path} is neither an .npz file nor a folder of class folders.") from error
    x_name = next((name for name in _X_NAMES if name in names), None)
    y_name = next((name for name in _Y_NAMES if name in names), None)
    if x_name is None or y_name is None:
        raise ValueError(f"{path} needs arrays x (or images) and y (or labels). It holds {names}.")
    x = network_motion(arrays["x"], arrays["meta_json"]) if is_motion(arrays) else arrays[x_name]
    return x, arrays[y_name]


def _from_folder(path, input_shape):
    import keras

    classes = sorted(folder for folder in path.iterdir() if folder.is_dir())
    if len(classes) < 2:
        raise ValueError(f"{path} needs one folder of images per class, at least two. It has {len(classes)}.")
    colour = {1: "grayscale", 3: "rgb", 4: "rgba"}.get(input_shape[-1])
    if colour is None or len(input_shape) != 3:
        expected = tuple(input_shape)
        raise ValueError(f"A folder of images fits inputs of 1, 3 or 4 channels; the model expects {expected}. Use an .npz.")
    data = keras.utils.image_dataset_from_directory(
        path, image_size=tuple(input_shape[:2]), color_mode=colour, batch_size=None, shuffle=False, verbose=False
    )
    pairs = [(x.numpy(), y.numpy()) for x, y in data]
    return np.stack([x for x, _ in pairs]), np.array([y for _, y in pairs])
