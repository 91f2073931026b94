"""The loss that goes with a model's head, and the plan that it leads to, for any model and the labelled samples of a task."""

import dataclasses
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_tinytrain._old_names import last_blocks_or_layers, old_keywords
from keras_tinytrain.choose.planner import choose, summed_cross_entropy
from keras_tinytrain.choose.protocols import Loss
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.device_settings import AUTO
from keras_tinytrain.fewshot._heads import CosineHead
from keras_tinytrain.fewshot._ridge_head import RidgeHead
from keras_tinytrain.fewshot._support import check_support
from keras_tinytrain.fewshot.adaptation import prototype_classifier
from keras_tinytrain.model.ending import ending
from keras_tinytrain.model.head_kind import head_kind
from keras_tinytrain.plan import Budget, Plan


@old_keywords(inspect=last_blocks_or_layers)
def choose_for_task(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    budget: Budget,
    *,
    head: str = "auto",
    accounting: DeviceAccounting = DeviceAccounting(),
    **choice_options: Any,
) -> Plan:
    """The plan for labelled samples, with the loss of the model's head.

    Args:
        model: a classifier of the samples' classes, or a backbone whose output is an embedding.
        x: float32 (N, ...).
        y: int (N,), 0..K-1, each class at least once.
        budget: memory and compute.
        head: what the model's output stands for, see `head_for`.
        accounting: how the device trains; its numbers of samples and classes are those of `x` and `y`.
        choice_options: of `planner.choose`: strategy, last_blocks, layers, kinds, rule, seed.

    Raises:
        ValueError: the samples do not fit the model, its head does not fit the classes, or the budget is too small.
    """
    classifier, loss = classifier_and_loss(model, x, y, head=head)
    accounting = dataclasses.replace(accounting, num_samples=len(x), num_classes=int(np.max(y)) + 1)
    return choose(classifier, x, loss, budget, accounting=accounting, **choice_options)


def head_for(model: keras.Model, num_classes: int, head: str = "auto") -> str:
    """What the output of `model` stands for: "softmax", "sigmoid", "logits" or "prototypes"; see `model.head_kind`.

    "ridge", a closed-form head, is what its user says of an embedding: it stays.
    """
    if head != RidgeHead.NAME:
        return head_kind(model, num_classes, head)
    head_kind(model, num_classes, CosineHead.NAME)
    return head


def device_head(model: keras.Model, num_classes: int, head: str = AUTO) -> str:
    """The head of a device for `model`: as `head_for`, but "auto" for an embedding where none is named: the device chooses."""
    found = head_for(model, num_classes, head)
    return AUTO if head == AUTO and found == CosineHead.NAME else found


def classifier_and_loss(model: keras.Model, x: np.ndarray, y: np.ndarray, *, head: str = "auto") -> tuple[keras.Model, Loss]:
    """The classifier and the loss by which `planner.choose` scores `model` on labelled samples.

    Args:
        model: a classifier of the samples' classes; or a backbone, which is scored through the prototypes of the samples.
        x: float32 (N, ...).
        y: int (N,), 0..K-1, each class at least once.
        head: what the model's output stands for, see `head_for`.

    Raises:
        ValueError: the samples do not fit the model, or its head does not fit the classes.
    """
    kind, end = head_for(model, check_support(model, x, y), head), ending(model)
    if kind in (CosineHead.NAME, RidgeHead.NAME):
        return prototype_classifier(model, x, y).model, summed_cross_entropy(y)
    if kind == "sigmoid":
        return model, _summed_binary_cross_entropy(y, from_logits=not end)
    return model, summed_cross_entropy(y, from_logits=not end)


def _summed_binary_cross_entropy(labels: ArrayLike, *, from_logits: bool) -> Loss:
    """As `summed_cross_entropy`, of outputs (N, 1) against labels 0 and 1."""
    labels = np.asarray(labels)

    def loss(outputs, indices):
        targets = keras.ops.cast(labels[indices][:, None], outputs.dtype)
        return keras.ops.sum(keras.losses.binary_crossentropy(targets, outputs, from_logits=from_logits))

    return loss
