"""Domains from .npz files: packed Omniglot bits, uint8 images, or recordings of a motion sensor."""

import os
import pathlib
import zipfile

import numpy as np

from keras_tinytrain.data.domain import Domain, resize
from keras_tinytrain.data.motion import is_motion, network_motion

_READ_CHUNK = 1024


def load_npz(path: str | os.PathLike, *, size: int | None = 32) -> Domain:
    """Read a domain; which layout it is follows from the names of the arrays.

    Args:
        path: an .npz with `images_packed` uint8 (N, ceil(H*W/8)) of row-major bits (1 = ink), `image_hw` (2,) and
            `class_id` (N,); or `images` uint8 (N, H, W, C), `labels` (N,) and perhaps `group` (N,);
            or `x` (N, steps, 6), `meta_json`, `labels` and perhaps `group`, see `motion.network_motion`.
        size: images are resized to size x size pixels; None keeps theirs. Motion is never resized.

    Returns:
        A Domain named after the file, images float32 (N, size, size, C) in [0, 1]; of motion
        (N, steps, 1, 6).

    Raises:
        ValueError: it is no .npz, or has none of these layouts.
        FileNotFoundError: there is no such file.
    """
    if pathlib.Path(path).exists() and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an .npz file.")
    with np.load(path, allow_pickle=False) as arrays:
        if "images_packed" in arrays:
            images, labels, groups = _unpack(arrays, size), arrays["class_id"], None
        elif "images" in arrays and "labels" in arrays:
            images, labels, groups = _scale(arrays["images"], 255, size), arrays["labels"], arrays.get("group")
        elif is_motion(arrays) and "labels" in arrays:
            images, labels, groups = network_motion(arrays["x"], arrays["meta_json"]), arrays["labels"], arrays.get("group")
        else:
            raise ValueError(
                f"{path} holds no image domain: it has {sorted(arrays)}, neither images_packed nor images and "
                "labels, nor x (N, steps, 6), meta_json and labels."
            )
    if groups is not None:  # all in one group: the file does not know which samples are near-duplicates
        groups = groups.astype(np.int64) if np.unique(groups).size > 1 else None
    return Domain(pathlib.Path(path).stem, images, labels.astype(np.int64), groups)


def _unpack(arrays, size):
    packed, (height, width) = arrays["images_packed"], arrays["image_hw"]
    chunks = []
    for start in range(0, len(packed), _READ_CHUNK):
        bits = np.unpackbits(packed[start : start + _READ_CHUNK], axis=1)[:, : height * width]
        chunks.append(_scale(bits.reshape(-1, height, width, 1), 1, size))
    return np.concatenate(chunks)


def _scale(images, white, size):
    resized = images.astype(np.float32) if size is None else resize(images, size, size)
    return np.clip(resized / np.float32(white), 0, 1)
