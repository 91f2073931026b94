"""Augmented views that host and device make alike: integer shifts that repeat the edge."""

import math

import numpy as np

MAX_SHIFT = 0.125  # of the image's size, as in PMF (Hu et al., CVPR 2022)


def shift_views(images: np.ndarray, shifts) -> np.ndarray:
    """out[v, n, y, x] = images[n, clamp(y - dy_v), clamp(x - dx_v)]: exact for any dtype, on int8 as on float32.

    Args:
        images: (N, H, W, C), any dtype.
        shifts: integers (V, 2), rows (dy, dx) in pixels; positive moves the picture down and to the right.

    Returns:
        (V, N, H, W, C), dtype of `images`.

    Raises:
        ValueError: shapes do not fit, or a shift is not a whole number.

    Example:
        >>> shift_views(np.arange(3).reshape(1, 1, 3, 1), [(0, 1)]).ravel()
        array([0, 0, 1])
    """
    images, shifts = np.asarray(images), np.asarray(shifts)
    if images.ndim != 4 or shifts.ndim != 2 or shifts.shape[1] != 2:
        raise ValueError(f"Expected images (N, H, W, C) and shifts (V, 2). Received: {images.shape} and {shifts.shape}.")
    if not np.issubdtype(shifts.dtype, np.integer):
        raise ValueError(f"Shifts are whole pixels. Received dtype {shifts.dtype}: {shifts.tolist()}")
    _, height, width, _ = images.shape
    rows = np.clip(np.arange(height) - shifts[:, :1], 0, height - 1)  # (V, H)
    columns = np.clip(np.arange(width) - shifts[:, 1:], 0, width - 1)  # (V, W)
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
