"""A compiled model, a callback for it, and the channels that it moved."""

import keras
import numpy as np
from models import small_net

from keras_tinytrain import Budget, TinyTrainCallback

BUDGET = Budget(memory="64KB", compute=0.3)


def compiled(optimizer=None, **options):
    model = small_net()
    model.compile(
        optimizer=optimizer or keras.optimizers.Adam(0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **options,
    )
    return model


def callback(**options):
    return TinyTrainCallback(BUDGET, **{"verbose": 0, **options})


def moved_channels(model, reference):
    """{layer name: output channels of its kernel that differ from `reference`}."""
    moved = {}
    for layer, other in zip(model.layers, reference.layers, strict=True):
        if not hasattr(layer, "kernel"):
            for a, b in zip(layer.get_weights(), other.get_weights()):
                assert np.array_equal(a, b), layer.name
            continue
        axis = -2 if isinstance(layer, keras.layers.DepthwiseConv2D) else -1
        difference = np.moveaxis(layer.kernel.numpy() != other.kernel.numpy(), axis, 0)
        channels = np.flatnonzero(difference.reshape(len(difference), -1).any(axis=1))
        if len(channels):
            moved[layer.name] = tuple(channels.tolist())
    return moved
