"""Windows cut from recordings of motion and seen anew, for meta-training."""

import dataclasses
import itertools

import numpy as np

from keras_tinytrain.metatrain.invented_motions import SECONDS
from keras_tinytrain.metatrain.motion_geometry import reverse, rotate, rotations

RECORDED_SECONDS = 1.3  # of a recording that a window shows
STARTS = (0.2, 1.0, 1.8)  # seconds into a recording: each is a class of its own
MAX_TILT = 0.2  # rad, standard deviation of how the board is held from one sample to the next


@dataclasses.dataclass(frozen=True)
class Recordings:
    """Labelled recordings, to cut windows from.

    A class is a label, a moment within the recording (STARTS), and one of the symmetries under which a motion is another
    possible one: turned about the vertical by quarter turns, mirrored, reversed in time.

    Args:
        motion: float (N, T, 6), g and degrees a second.
        labels: int (N,).
        rate: in Hz.
    """

    motion: np.ndarray
    labels: np.ndarray
    rate: float

    def sample(self, rng: np.random.Generator, num_classes: int, num_samples: int) -> np.ndarray:
        """As `invented_motions`, of classes that are drawn anew; gravity points along z on average."""
        kinds = list(itertools.product(np.unique(self.labels), STARTS, range(4), (1, -1), (False, True)))
        chosen = rng.choice(len(kinds), num_classes, replace=False)
        return np.concatenate([self._windows(rng, kinds[kind], num_samples) for kind in chosen])

    def _windows(self, rng, kind, num_samples):
        label, start, quarter_turns, mirror, backwards = kind
        of_class = np.flatnonzero(self.labels == label)
        rows = rng.choice(of_class, num_samples, replace=num_samples > len(of_class))
        stretch = RECORDED_SECONDS * np.exp(rng.normal(0, 0.15, (num_samples, 1)))
        place = (start + rng.normal(0, 0.1, (num_samples, 1)) + stretch * SECONDS) * self.rate
        place = np.clip(place, 0, self.motion.shape[1] - 1.001)
        before, part = place.astype(int), (place % 1)[..., None]
        rows = rows[:, None]
        windows = (1 - part) * self.motion[rows, before] + part * self.motion[rows, before + 1]
        windows[..., 3:] *= stretch[..., None]  # played in one second
        windows = rotate(windows, _upright(self.motion))
        windows = rotate(windows, rotations(np.array([0, 0, quarter_turns * np.pi / 2])) @ np.diag([mirror, 1, 1]))
        return reverse(windows) if backwards else windows


def _upright(motion):
    """The rotation that takes the mean direction of gravity to z."""
    mean = motion[..., :3].mean(axis=(0, 1))
    mean = mean / np.linalg.norm(mean)
    axis = np.cross(mean, [0, 0, 1.0])
    sine = np.linalg.norm(axis)
    return rotations(axis / max(sine, 1e-9) * np.arctan2(sine, mean[2]))


def held_otherwise(windows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One way of holding the board for all windows of an episode, a little tilt of each, and the sensor's noise and limits."""
    vector = rng.normal(size=3)
    base = rotations(vector / np.linalg.norm(vector) * rng.choice([0, rng.uniform(0, np.pi)]))
    tilt = rotations(rng.normal(0, MAX_TILT, (len(windows), 1, 3)))
    windows = rotate(windows, base @ tilt) + rng.normal(0, 1, windows.shape) * np.repeat([0.02, 2.0], 3)
    limits = np.repeat([4.0, 2000.0], 3)  # of the LSM9DS1 as Arduino sets it
    return np.clip(windows, -limits, limits)
