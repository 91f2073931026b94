"""The loss that a model was compiled with, as `planner.choose` takes it."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.choose.protocols import Loss
from keras_tinytrain.model.keras_package import is_keras2


def compiled_loss(model: keras.Model, x: np.ndarray, y: Any) -> Loss:
    """loss(outputs, indices) -> the sum of the losses of the samples `indices`.

    Args:
        model: compiled; its metrics are changed.
        x: samples (N, ...).
        y: labels as `fit` takes them: an array, a structure of arrays, or None.
    """
    mode = {"sample_weight": None} if is_keras2(model) else {"training": False}

    def labels(indices):
        return keras.tree.map_structure(lambda each: tf.convert_to_tensor(np.asarray(each)[indices]), y)

    def loss(outputs, indices):
        batch = {"x": x[indices], "y": None if y is None else labels(indices), "y_pred": outputs}
        return model.compute_loss(**batch, **mode) * len(indices)

    return loss
