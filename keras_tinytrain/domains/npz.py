"""Domains from .npz files: packed Omniglot bits, or uint8 images."""

import os
import pathlib

import numpy as np

from keras_tinytrain.domains.domain import Domain, resize

_READ_CHUNK = 1024


def load_npz(path: str | os.PathLike, *, size: int | None = 32) -> Domain:
    """Read a domain; which layout it is follows from the names of the arrays.

    Args:
        path: an .npz with either `images_packed` uint8 (N, ceil(H*W/8)) of row-major bits (1 = ink), `image_hw` (2,) and
            `class_id` (N,), or `images` uint8 (N, H, W, C), `labels` (N,) and perhaps `group` (N,).
        size: images are resized to size x size pixels; None keeps theirs.

    Returns:
        A Domain named after the file, images float32 (N, size, size, C) in [0, 1].

    Raises:
        ValueError: the file has neither layout.
        FileNotFoundError: there is no such file.
    """
    with np.load(path, allow_pickle=False) as arrays:
        if "images_packed" in arrays:
            images, labels, groups = _unpack(arrays, size), arrays["class_id"], None
        elif "images" in arrays and "labels" in arrays:
            images, labels, groups = _scale(arrays["images"], 255, size), arrays["labels"], arrays.get("group")
        else:
            raise ValueError(
                f"{path} holds no image domain: it has {sorted(arrays)}, neither images_packed nor images and labels."
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
