"""Images as characters, for a terminal."""

from collections.abc import Sequence

import numpy as np

from keras_tinytrain.data import resize

_INKS = " ░▒▓█"  # from the background to ink 1
WIDTH, HEIGHT = 16, 8  # characters, which are twice as high as wide


def shaded(image: np.ndarray) -> list[str]:
    """Lines of characters of an image (height, width, channels) in [0, 1], ink 1 on a background of 0."""
    grey = np.mean(image, axis=-1, keepdims=True)
    levels = np.round(np.clip(resize(grey[None], HEIGHT, WIDTH)[0, ..., 0], 0, 1) * (len(_INKS) - 1)).astype(int)
    return ["".join(_INKS[level] for level in row) for row in levels]


def side_by_side(images: Sequence[np.ndarray], captions: Sequence[Sequence[str]]) -> str:
    """Shaded images beside each other, each with the lines of its caption below."""
    blocks = [[*shaded(image), *caption] for image, caption in zip(images, captions, strict=True)]
    return "\n".join("   ".join(line.ljust(WIDTH) for line in lines).rstrip() for lines in zip(*blocks, strict=True))
