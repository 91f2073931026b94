"""Choose a plan for any model and the labelled samples of a task: which head it has, hence which loss."""

import dataclasses

import keras
import numpy as np

from keras_tinytrain.choose import planner
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.fewshot.adaptation import prototype_classifier
from keras_tinytrain.model.graph import flatten, walk
from keras_tinytrain.plan import Budget, Plan


def head_for(model: keras.Model, num_classes: int) -> str:
    """ "softmax" where `model` ends in a dense layer of `num_classes` units, perhaps with a softmax; else "prototypes"."""
    layers = [node.layer for node in walk(flatten(model))]
    own_softmax = len(layers) > 1 and _is_softmax(layers[-1]) and not isinstance(layers[-1], keras.layers.Dense)
    last = layers[-2] if own_softmax else layers[-1]
    return "softmax" if isinstance(last, keras.layers.Dense) and last.units == num_classes else "prototypes"


def choose_for_task(
    model: keras.Model, x, y, budget: Budget, *, accounting: DeviceAccounting = DeviceAccounting(), **choice_options
) -> Plan:
    """The plan for labelled samples, with the loss of the model's head.

    Args:
        model: a classifier of the samples' classes, or a backbone whose output is an embedding.
        x: float32 (N, ...).
        y: int (N,), 0..K-1.
        budget: memory and compute, in the device's accounting.
        accounting: how the device trains; its numbers of samples and classes are those of `x` and `y`.
        choice_options: of `planner.choose`: strategy, last_blocks, layers, kinds, rule, seed.
    """
    num_classes = int(np.max(y)) + 1
    accounting = dataclasses.replace(accounting, num_samples=len(x), num_classes=num_classes)
    if head_for(model, num_classes) == "prototypes":
        model, loss = prototype_classifier(model, x, y).model, planner.summed_cross_entropy(y)
    else:
        loss = planner.summed_cross_entropy(y, from_logits=not _is_softmax(model.layers[-1]))
    return planner.choose(model, x, loss, budget, accounting=accounting, **choice_options)


def _is_softmax(layer):
    return isinstance(layer, keras.layers.Softmax) or getattr(layer, "activation", None) is keras.activations.softmax
