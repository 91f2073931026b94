"""Recordings of motion as a board that is held otherwise would make them, mirrored, or played backwards.

A window is (T, 6): accelerometer x y z in g, gravity included, and gyroscope x y z in degrees a second.
"""

import numpy as np


def rotate(windows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """As a board held otherwise records it: acceleration M a and, since it is an axial vector, angular rate det(M) M w.

    Args:
        windows: float (N, T, 6).
        matrix: orthogonal, (3, 3) or (N, 1, 3, 3); a mirror has determinant -1.
    """
    vectors = windows.reshape(*windows.shape[:2], 2, 3) @ np.swapaxes(matrix, -1, -2)
    vectors[:, :, 1] *= np.linalg.det(matrix)[..., None]
    return vectors.reshape(windows.shape)


def reverse(windows: np.ndarray) -> np.ndarray:
    """The same motion backwards in time: accelerations stay, angular rates change their sign."""
    return windows[:, ::-1] * np.repeat([1.0, -1.0], 3)


def rotations(vectors: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3) in rad: I + sin(a)/a K + (1 - cos(a))/a^2 K^2."""
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None] + 1e-12
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
    return np.eye(3) + np.sin(angle) / angle * cross + (1 - np.cos(angle)) / angle**2 * cross @ cross
