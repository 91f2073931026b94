"""The loss that a model was compiled with, as `planner.choose` takes it."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.choose.protocols import Loss
from keras_tinytrain.model.keras_package import is_keras2, keras_package
from keras_tinytrain.model.private_keras import forget_losses


def compiled_loss(model: keras.Model, x: np.ndarray, y: Any) -> Loss:
    """loss(outputs, indices) -> the sum of the losses of the samples `indices`.

    The model's `compute_loss` sees outputs and labels of the dtypes that it sees in `fit`, whatever dtype is scored in. It does not
    see the losses that activity regularizers kept from the model's last call, which was on other data, or in a graph.

    Args:
        model: compiled; its metrics are changed.
        x: samples (N, ...).
        y: labels as `fit` takes them: an array, a structure of arrays, or None.

    Raises:
        ValueError: (the loss) the model was compiled without one.
    """
    has_loss = model.loss or type(model).compute_loss is not keras_package(model).Model.compute_loss
    mode = {"sample_weight": None} if is_keras2(model) else {"training": False}

    def labels(indices):
        return keras.tree.map_structure(lambda each: tf.convert_to_tensor(_as_in_fit(np.asarray(each)[indices])), y)

    def loss(outputs, indices):
        if not has_loss:
            raise ValueError(
                f"Model '{model.name}' was compiled without a loss. Losses that its layers add train it, but choose no channels: "
                "compile it with a loss, or give TinyTrainCallback a `plan`."
            )
        outputs = keras.tree.map_structure(lambda each: tf.cast(each, model.outputs[0].dtype), outputs)
        forget_losses(model)
        batch = {"x": x[indices], "y": None if y is None else labels(indices), "y_pred": outputs}
        return model.compute_loss(**batch, **mode) * len(indices)

    return loss


def _as_in_fit(values):
    return values.astype(keras.config.floatx()) if np.issubdtype(values.dtype, np.floating) else values
