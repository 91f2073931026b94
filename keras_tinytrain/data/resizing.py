"""Images at another size. Apart from the readers, since it takes TensorFlow."""

import numpy as np
import tensorflow as tf

_CHUNK = 1024  # images that are float32 at once


def resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize with half-pixel centres; antialiased where it shrinks.

    Args:
        images: (N, H, W, C), any real dtype.
        height, width: size of the result in pixels.

    Returns:
        float32 (N, height, width, C), same value range.
    """
    chunks = (images[i : i + _CHUNK].astype(np.float32) for i in range(0, len(images), _CHUNK))
    return np.concatenate([tf.image.resize(chunk, (height, width), antialias=True).numpy() for chunk in chunks])
