"""A weight's constraint, applied to some of its channels alone."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

_EXAMPLE_SCALES = (0.1, 1.0, 10.0)  # of random weights: a limit may act on large ones only, or on small ones


def channel_constraint(source: keras.Variable | tf.Variable, channels: np.ndarray, axis: int) -> Any:
    """The constraint of `source`, for a variable that holds its channels `channels` along `axis`; None where it has none.

    Raises:
        ValueError: the constraint computes a channel's values from other channels too, and not all of them are trained.
    """
    constraint = source.constraint
    if constraint is None or len(channels) == source.shape[axis]:
        return constraint
    rng = np.random.default_rng(0)
    for scale in _EXAMPLE_SCALES:
        weight = (scale * rng.normal(size=source.shape)).astype(np.float32)
        alone = constraint(tf.constant(weight.take(channels, axis)))
        whole = keras.ops.convert_to_numpy(constraint(tf.constant(weight)))
        if not np.allclose(alone, whole.take(channels, axis), rtol=1e-5, atol=1e-7):
            raise ValueError(
                f"The {type(constraint).__name__} of '{getattr(source, 'path', source.name)}' computes each channel from others "
                "too, so it cannot hold for chosen channels while the rest stays as it is. Give it an `axis` without the channels, "
                f"train the layer in a plan of all its {source.shape[axis]} channels, or leave it out by naming other `layers`."
            )
    return constraint
