"""Windows of motion for meta-training: recordings seen anew, and motions that nobody made.

A window is (STEPS, 6): accelerometer x y z in g, gravity included, and gyroscope x y z in degrees a second, at RATE.
"""

import dataclasses
import itertools

import numpy as np

STEPS, RATE = 119, 119.0  # samples, Hz
SECONDS = np.arange(STEPS) / RATE
NUM_WAVES = 4
FREE_SHARE = 0.6  # of invented classes that are told by axes, strength and frequencies alone
RECORDED_SECONDS = 1.3  # of a recording that a window shows
STARTS = (0.2, 1.0, 1.8)  # seconds into a recording: each is a class of its own
MAX_TILT = 0.2  # rad, standard deviation of how the board is held from one sample to the next


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


def invented_motions(rng: np.random.Generator, num_classes: int, num_samples: int) -> np.ndarray:
    """Motions of `num_classes` new classes, `num_samples` of each, class by class.

    A class is a sum of waves for the hand's acceleration and for its angular rate under an envelope, since a gesture
    begins and ends. A sample has its own speed, moment, strength and slightly other waves; of FREE_SHARE of the classes its own
    phases, since a hand that draws a line may begin at either end. Gravity turns with the board.

    Returns:
        float (num_classes * num_samples, STEPS, 6); gravity along z when the motion begins.
    """
    num = num_classes * num_samples
    per_class = lambda values: np.repeat(values, num_samples, axis=0)
    shape, rows = (num_classes, 6, NUM_WAVES), (num, 1)
    frequency = per_class(rng.uniform(0.5, 5, shape))
    amplitude = per_class(rng.normal(size=shape) * rng.exponential(size=(num_classes, 6, 1)))
    strength = per_class(np.exp(rng.normal(np.log([[0.4, 100.0]]), 0.6, (num_classes, 2))))
    phase = per_class(rng.uniform(0, 2 * np.pi, shape))
    begin, duration = per_class(rng.uniform(-0.2, 0.1, (num_classes, 1))), per_class(rng.uniform(0.3, 1.2, (num_classes, 1)))

    speed = np.exp(rng.normal(0, 0.15, rows))
    time = speed * (SECONDS + rng.normal(0, 0.05, rows))
    time = time + 0.02 * np.sin(2 * np.pi * (SECONDS + rng.uniform(0, 1, rows)))
    envelope = 1 / (1 + np.exp((begin - time) / 0.03)) / (1 + np.exp((time - begin - duration) / 0.05))
    amplitude = amplitude * (1 + rng.normal(0, 0.25, amplitude.shape))
    free = per_class(rng.random((num_classes, 1, 1)) < FREE_SHARE)
    phase = np.where(free, rng.uniform(0, 2 * np.pi, phase.shape), phase + rng.normal(0, 0.3, phase.shape))
    angle = 2 * np.pi * frequency[..., None] * time[:, None, None] + phase[..., None]
    waves = np.einsum("nck,nckt->nct", amplitude, np.sin(angle))
    waves = np.swapaxes(waves, 1, 2).reshape(num, STEPS, 2, 3) / np.sqrt(NUM_WAVES)
    powers = np.concatenate([speed**2, speed], axis=1) * strength * np.exp(rng.normal(0, 0.2, (num, 2)))
    motion = waves * envelope[..., None, None] * powers[:, None, :, None]
    return _as_measured(motion[:, :, 0], motion[:, :, 1], rng)


def _as_measured(acceleration, rate, rng):
    """What the sensor says of a motion given in the board's axes: gravity comes on top, and turns against the board."""
    gravity = rotations(rng.normal(0, 0.05, (len(rate), 3))) @ [0.0, 0.0, 1.0]
    turns = rotations(np.radians(-rate / RATE))
    down = np.empty_like(acceleration)
    for step in range(STEPS):
        down[:, step] = gravity
        gravity = np.einsum("nij,nj->ni", turns[:, step], gravity)
    return np.concatenate([acceleration + down, rate], axis=-1)


@dataclasses.dataclass(frozen=True)
class Recordings:
    """Labelled recordings of which windows are cut.

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
        return np.concatenate([self._windows(rng, *kinds[kind], num_samples) for kind in chosen])

    def _windows(self, rng, label, start, quarter_turns, mirror, backwards, num_samples):
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
