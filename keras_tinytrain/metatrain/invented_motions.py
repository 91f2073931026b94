"""Windows of invented motions, for meta-training.

A window is (STEPS, 6): accelerometer x y z in g, gravity included, and gyroscope x y z in degrees a second, at RATE.
"""

import numpy as np

from keras_tinytrain.metatrain.motion_geometry import rotations

STEPS, RATE = 119, 119.0  # samples, Hz
SECONDS = np.arange(STEPS) / RATE
NUM_WAVES = 4
FREE_SHARE = 0.6  # of invented classes that are told by axes, strength and frequencies alone


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
    """The motion as the sensor measures it, in the board's axes: gravity is added, and turns against the board."""
    gravity = rotations(rng.normal(0, 0.05, (len(rate), 3))) @ [0.0, 0.0, 1.0]
    turns = rotations(np.radians(-rate / RATE))
    down = np.empty_like(acceleration)
    for step in range(STEPS):
        down[:, step] = gravity
        gravity = np.einsum("nij,nj->ni", turns[:, step], gravity)
    return np.concatenate([acceleration + down, rate], axis=-1)
