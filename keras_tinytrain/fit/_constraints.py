"""A weight's constraint, applied to some of its channels alone."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.model.channels import find_weights

_EXAMPLE_SCALES = (0.1, 1.0, 10.0)  # of random weights: a limit may act on large ones only, or on small ones


def whole_only(model: keras.Model, names: Iterable[str]) -> dict[str, str]:
    """{name: why} of those of the layers `names` that can be trained as a whole only, since a constraint mixes their channels."""
    found = {}
    for name in names:
        weights = find_weights(model, name)
        for source, axis in ((weights.kernel, weights.axis), (weights.bias, -1)):
            if source is not None and _mixes(source, np.arange(1), axis):
                found[name] = f"whose {type(source.constraint).__name__} mixes channels"
    return found


def channel_constraint(source: keras.Variable | tf.Variable, channels: np.ndarray, axis: int) -> Any:
    """The constraint of `source`, for a variable that holds its channels `channels` along `axis`; None where it has none.

    Raises:
        ValueError: the constraint computes a channel's values from other channels too, and not all of them are trained.
    """
    if _mixes(source, channels, axis):
        raise ValueError(
            f"The {type(source.constraint).__name__} of '{getattr(source, 'path', source.name)}' computes each channel from others "
            "too, so it cannot hold for chosen channels while the rest stays as it is. Give it an `axis` without the channels, "
            f"train the layer in a plan of all its {source.shape[axis]} channels, or leave it out by naming other `layers`."
        )
    return _constraint(source)


def _constraint(source):
    """None of a kernel that is no variable, such as LoRA's sum."""
    return getattr(source, "constraint", None)


def _mixes(source, channels, axis):
    """Whether the constraint gives `channels` other values among all channels than alone."""
    if _constraint(source) is None or len(channels) == source.shape[axis]:
        return False
    rng = np.random.default_rng(0)
    for scale in _EXAMPLE_SCALES:
        weight = (scale * rng.normal(size=source.shape)).astype(np.float32)
        alone = source.constraint(tf.constant(weight.take(channels, axis)))
        whole = keras.ops.convert_to_numpy(source.constraint(tf.constant(weight)))
        if not np.allclose(alone, whole.take(channels, axis), rtol=1e-5, atol=1e-7):
            return True
    return False
