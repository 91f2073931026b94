"""The loss that goes with a model's head, for any model and the labelled samples of a task."""

import keras
import numpy as np

from keras_tinytrain.choose.planner import summed_cross_entropy
from keras_tinytrain.choose.protocols import Loss
from keras_tinytrain.fewshot.adaptation import prototype_classifier
from keras_tinytrain.model.graph import flatten, walk


def head_for(model: keras.Model, num_classes: int) -> str:
    """ "softmax" where `model` ends in a dense layer of `num_classes` units, perhaps with a softmax; else "prototypes"."""
    layers = [node.layer for node in walk(flatten(model))]
    own_softmax = len(layers) > 1 and _is_softmax(layers[-1]) and not isinstance(layers[-1], keras.layers.Dense)
    last = layers[-2] if own_softmax else layers[-1]
    return "softmax" if isinstance(last, keras.layers.Dense) and last.units == num_classes else "prototypes"


def classifier_and_loss(model: keras.Model, x: np.ndarray, y: np.ndarray) -> tuple[keras.Model, Loss]:
    """The classifier and the loss by which `planner.choose` scores `model` on labelled samples.

    Args:
        model: a classifier of the samples' classes; or a backbone, which is scored through the prototypes of the samples.
        x: float32 (N, ...).
        y: int (N,), 0..K-1.
    """
    if head_for(model, int(np.max(y)) + 1) == "prototypes":
        return prototype_classifier(model, x, y).model, summed_cross_entropy(y)
    return model, summed_cross_entropy(y, from_logits=not _is_softmax(model.layers[-1]))


def _is_softmax(layer):
    return isinstance(layer, keras.layers.Softmax) or getattr(layer, "activation", None) is keras.activations.softmax
