"""Scans as the camera of a small device sees them: a fixed lamp and a fixed noise, so that learning them has a gain to show."""

import dataclasses

import numpy as np

from keras_tinytrain.data.domain import Domain

DARKEST = 0.5  # light in the corner that is farthest from the lamp, as a share of that under it
NOISE = 0.2  # standard deviation of a pixel, where white paper under the lamp is 1
_SEED = 0  # of the noise


def seen_by_camera(domain: Domain) -> Domain:
    """The same scans, photographed in uneven light by a noisy sensor.

    photo = light (1 - ink) + noise, in 8 bits. The light falls linearly from 1 in the first corner to `DARKEST` in the opposite
    one. The noise is normal, independent in each pixel, and the same on every call. The device inverts the photo, as networks
    for glyphs take ink as 1.

    Args:
        domain: images with ink 1 on a background of 0.

    Returns:
        A Domain named "<name> by camera" with the same labels, images float32 in [0, 1], multiples of 1/255.
    """
    _, height, width, _ = domain.images.shape
    down, right = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[:, None]
    light = 1 - (1 - DARKEST) * (down + right) / 2
    photo = light * (1 - domain.images) + np.random.default_rng(_SEED).normal(0, NOISE, domain.images.shape)
    inverted = 1 - np.round(255 * np.clip(photo, 0, 1)) / 255
    return dataclasses.replace(domain, name=f"{domain.name} by camera", images=inverted.astype(np.float32))
