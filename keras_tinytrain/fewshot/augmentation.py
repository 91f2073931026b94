"""Augmented views: integer shifts, which host and device make alike, and views by Keras layers or any function."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import ArrayLike

# How views are drawn, see `fixed_views`.
Augment: TypeAlias = str | keras.layers.Layer | Sequence[keras.layers.Layer] | Callable[[np.ndarray], Any]
MAX_SHIFT = 0.125  # of the image's size, as in PMF (Hu et al., CVPR 2022)


def shift_views(images: np.ndarray, shifts: ArrayLike) -> np.ndarray:
    """out[v, n, y, x] = images[n, clamp(y - dy_v), clamp(x - dx_v)]: exact for any dtype, on int8 as on float32.

    Args:
        images: (N, H, W, C), any dtype.
        shifts: integers (V, 2), rows (dy, dx) in pixels; positive moves the picture down and to the right. Or (V, 3), rows
            (dy, dx, mirrored): 1 swaps left and right before the shift, 0 does not.

    Returns:
        (V, N, H, W, C), dtype of `images`.

    Raises:
        ValueError: shapes do not fit, or a shift is not a whole number.

    Example:
        >>> shift_views(np.arange(3).reshape(1, 1, 3, 1), [(0, 1)]).ravel()
        array([0, 0, 1])
    """
    images, shifts = np.asarray(images), np.asarray(shifts)
    if images.ndim != 4 or shifts.ndim != 2 or shifts.shape[1] not in (2, 3):
        raise ValueError(
            f"Expected images (N, H, W, C) and shifts (V, 2) or (V, 3). Received: {images.shape} and {shifts.shape}. Sequences "
            "(N, T, C) are images x[:, None] of height 1."
        )
    if not np.issubdtype(shifts.dtype, np.integer):
        raise ValueError(f"Shifts are whole pixels. Received dtype {shifts.dtype}: {shifts.tolist()}")
    _, height, width, _ = images.shape
    rows = np.clip(np.arange(height) - shifts[:, :1], 0, height - 1)  # (V, H)
    columns = np.clip(np.arange(width) - shifts[:, 1:2], 0, width - 1)  # (V, W)
    columns = np.where(shifts[:, 2:].any(axis=1, keepdims=True), width - 1 - columns, columns)
    return np.stack([images[:, y][:, :, x] for y, x in zip(rows, columns)])


def default_shifts(height: int, width: int, num_views: int = 4) -> tuple[tuple[int, int], ...]:
    """Shifts by 12.5 % of the image in evenly spread directions; the same on every call.

    View v moves by (reach * height * sin a, reach * width * cos a), a = 2 pi (v + 1/2) / num_views, rounded.

    Args:
        height, width: size of the images in pixels.
        num_views: how many.

    Returns:
        `num_views` pairs (dy, dx) in pixels.

    Example:
        >>> default_shifts(32, 32, 4)
        ((3, 3), (3, -3), (-3, -3), (-3, 3))
    """
    angles = [2 * math.pi * (view + 0.5) / num_views for view in range(num_views)]
    reach_y, reach_x = MAX_SHIFT * height, MAX_SHIFT * width
    return tuple((round(reach_y * math.sin(angle)), round(reach_x * math.cos(angle))) for angle in angles)


DEFAULT_SHIFTS = default_shifts(32, 32)


STYLES = ("photo", "ink")


def fixed_views(images: np.ndarray, augment: Augment, *, num_views: int = 4, seed: int = 0) -> np.ndarray:
    """Augmented copies that are drawn once, so that the frozen part of a network runs once for each.

    Keras' random layers are rebuilt with `seed`, so the same call gives the same views.

    Args:
        images: float32 (N, H, W, C).
        augment: "photo": shifts by up to 12.5 % that repeat the edge, mirror images, brightness, contrast and saturation.
            "ink": the shifts alone, for glyphs and sketches, whose mirror image is another sign.
            A Keras layer or a list of them: called with training=True, one after the other.
            Else a function: images (N, H, W, C) -> a view of the same shape; its randomness is its own.
        num_views: V.
        seed: of the Keras layers.

    Returns:
        float32 (V, N, H, W, C).

    Raises:
        ValueError: `augment` is none of these, or a view has another shape than the images.
    """
    images = np.asarray(images, np.float32)
    draw = _drawing(augment, images, seed)
    views = [np.asarray(draw(images), np.float32) for _ in range(num_views)]
    if not views or any(view.shape != images.shape for view in views):
        shapes = [view.shape for view in views]
        raise ValueError(f"Expected at least one view, each of shape {images.shape}. Received views of shapes {shapes}.")
    return np.stack(views)


def _drawing(augment, images, seed):
    """images -> a view of them."""
    if isinstance(augment, str):
        augment = _style_layers(augment, images)
    augment = [augment] if isinstance(augment, keras.layers.Layer) else augment
    if callable(augment):
        return augment
    if not isinstance(augment, (list, tuple)) or not all(isinstance(layer, keras.layers.Layer) for layer in augment):
        raise ValueError(f"augment expects one of {STYLES}, a Keras layer, a list of them or a function. Received: {augment!r}")
    layers = keras.Sequential([_seeded(layer, seed + place) for place, layer in enumerate(augment)])
    return lambda x: layers(x, training=True)


def _seeded(layer, seed):
    """A new layer of the same settings whose random numbers begin at `seed`; a layer without a seed itself."""
    config = layer.get_config()
    return layer.__class__.from_config({**config, "seed": seed}) if "seed" in config else layer


def _style_layers(style, images):
    """The layers of a style. Colours are changed on a scale from 0, the least of all pixels, to 1, the largest."""
    if style not in STYLES:
        raise ValueError(f"augment expects one of {STYLES}, a Keras layer, a list of them or a function. Received: {style!r}")
    layers, low, span = keras.layers, float(images.min()), max(float(np.ptp(images)), 1e-6)
    shift = layers.RandomTranslation(MAX_SHIFT, MAX_SHIFT, fill_mode="nearest", interpolation="nearest")
    if style == "ink":
        return [shift]
    saturation = layers.RandomSaturation((1 / 3, 3 / 5), value_range=(0, 1))  # a factor f multiplies by f / (1 - f): 0.5 to 1.5
    return [
        shift,
        layers.RandomFlip("horizontal"),
        layers.Rescaling(1 / span, -low / span),
        *([saturation] if images.shape[-1] == 3 else []),
        layers.RandomContrast(0.4, value_range=(0, 1)),
        layers.RandomBrightness(0.125, value_range=(0, 1)),
        layers.Rescaling(span, low),
    ]
