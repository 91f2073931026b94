"""The loss that goes with a model's head, and the plan that it leads to, for any model and the labelled samples of a task."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_tinytrain._old_names import last_blocks_or_layers, old_keywords
from keras_tinytrain.choose.planner import choose, summed_cross_entropy
from keras_tinytrain.choose.protocols import Loss
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.fewshot.adaptation import prototype_classifier
from keras_tinytrain.model.graph import flatten, walk
from keras_tinytrain.plan import Budget, Plan


@old_keywords(inspect=last_blocks_or_layers)
def choose_for_task(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    budget: Budget,
    *,
    accounting: DeviceAccounting = DeviceAccounting(),
    **choice_options: Any,
) -> Plan:
    """The plan for labelled samples, with the loss of the model's head.

    Args:
        model: a classifier of the samples' classes, or a backbone whose output is an embedding.
        x: float32 (N, ...).
        y: int (N,), 0..K-1.
        budget: memory and compute.
        accounting: how the device trains; its numbers of samples and classes are those of `x` and `y`.
        choice_options: of `planner.choose`: strategy, last_blocks, layers, kinds, rule, seed.
    """
    accounting = dataclasses.replace(accounting, num_samples=len(x), num_classes=int(np.max(y)) + 1)
    classifier, loss = classifier_and_loss(model, x, y)
    return choose(classifier, x, loss, budget, accounting=accounting, **choice_options)


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
