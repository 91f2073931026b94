"""Handwritten digits that come with scikit-learn: a domain that needs no download."""

import numpy as np

from keras_tinytrain.data.domain import Domain
from keras_tinytrain.data.resizing import resize


def load_digits(*, size: int = 32) -> Domain:
    """1,797 scans of ten digits, 8x8 pixels of 0..16, upsampled bilinearly.

    Source: Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, UCI, 1998), as in `sklearn.datasets`.

    Args:
        size: images are size x size pixels.

    Returns:
        A Domain named "digits", images float32 (1797, size, size, 1) in [0, 1].

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        import sklearn.datasets
    except ImportError as error:
        raise ImportError(
            'The digits domain needs scikit-learn, which is not installed: pip install "keras-tinytrain[demo]"'
        ) from error
    scans = sklearn.datasets.load_digits()
    images = resize(scans.images[..., None] / np.float32(16), size, size)
    return Domain("digits", images, scans.target.astype(np.int64))
