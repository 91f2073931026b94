"""Recordings of a motion sensor in the units that GestureNet takes, from other units too."""

import json
from collections.abc import Mapping

import numpy as np

STANDARD_GRAVITY = 9.80665  # m/s^2
DEGREES_PER_SECOND = 250.0  # one unit of angular rate: then both sensors fill about the same part of int8's range
_UNITS = (  # of acceleration, then of angular rate: {name in the file: what one of it is in the network's unit}
    {"m/s^2": 1 / STANDARD_GRAVITY, "g": 1.0},
    {"rad/s": 180 / np.pi / DEGREES_PER_SECOND, "deg/s": 1 / DEGREES_PER_SECOND},
)


def is_motion(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether an .npz holds recordings of a motion sensor: x (N, steps, 6), and meta_json that names their units."""
    return "x" in arrays and "meta_json" in arrays and arrays["x"].ndim == 3 and arrays["x"].shape[2] == 6


def network_motion(x: np.ndarray, meta_json: str) -> np.ndarray:
    """Recordings as GestureNet takes them.

    Args:
        x: float (N, steps, 6), accelerometer x y z, gyroscope x y z.
        meta_json: JSON whose "units" begin with "g and deg/s" or "m/s^2 and rad/s", or the other two pairs of these.

    Returns:
        float32 (N, steps, 1, 6): accelerations in g, angular rates in units of 250 degrees a second.

    Raises:
        ValueError: the units are none of these.

    Example:
        >>> network_motion(np.ones((1, 1, 6)), '{"units": "g and deg/s"}').ravel()[2:4]
        array([1.   , 0.004], dtype=float32)
    """
    named = str(json.loads(str(meta_json)).get("units"))
    words = named.split()[:3]
    if len(words) != 3 or words[0] not in _UNITS[0] or words[1] != "and" or words[2].strip(",;") not in _UNITS[1]:
        accelerations, rates = (" or ".join(names) for names in _UNITS)
        raise ValueError(f'"units" in meta_json expects "{accelerations}" "and" "{rates}". Received: {named!r}')
    factors = np.repeat([_UNITS[0][words[0]], _UNITS[1][words[2].strip(",;")]], 3)
    return (np.asarray(x, np.float64) * factors).astype(np.float32)[:, :, None]
