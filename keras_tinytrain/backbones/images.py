"""Images of a domain as a backbone wants them."""

import numpy as np

from keras_tinytrain.backbones.imagenet_weights import preprocess_input
from keras_tinytrain.data.resizing import resize


def network_images(images: np.ndarray, input_shape: tuple[int, int, int]) -> np.ndarray:
    """Images of a domain as a backbone wants them.

    Args:
        images: float32 (N, H, W, 1) with ink 1, or photographs (N, H, W, 3), in [0, 1]; or motion
            (N, steps, 1, 6), which is not changed.
        input_shape: of the backbone. With 3 channels it sees photographs, and glyphs as black ink on white, in [-1, 1]
            (`preprocess_input`); with 1 channel it sees ink, or grey values, in [0, 1].

    Returns:
        float32 (N, *input_shape).

    Raises:
        ValueError: windows of motion, for a network that takes others.
    """
    height, width, channels = input_shape
    if 6 in (channels, images.shape[-1]):  # motion: nothing to resize
        if images.shape[1:] != tuple(input_shape):
            raise ValueError(f"The domain holds samples {images.shape[1:]}, the network takes {tuple(input_shape)}.")
        return images
    images = resize(images, height, width)
    if channels == 1:
        return images.mean(axis=-1, keepdims=True)
    return preprocess_input(255 * (images if images.shape[-1] == 3 else np.repeat(1 - images, 3, axis=-1)))
