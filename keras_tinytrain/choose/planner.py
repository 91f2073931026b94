"""Score a model on samples and choose what to train within a budget: from model and data to a `Plan`."""

import keras
import numpy as np

from keras_tinytrain.choose.strategies import find_strategy, make_task
from keras_tinytrain.plan import Budget, Plan


def choose(model: keras.Model, x, loss, budget: Budget, *, strategy: str = "fisher", **task_options) -> Plan:
    """What `strategy` trains of `model` for the samples `x`, within `budget`.

    Args:
        model: a built Functional or Sequential model; not changed.
        x: float array (N, ...) of samples.
        loss: loss(outputs, indices) -> SUM of the losses of the samples `indices`.
        budget: memory and compute.
        strategy: a key of `strategies.STRATEGIES`.
        task_options: of `strategies.make_task`: last_blocks, layers, kinds, accounting, rule, seed, frozen.

    Returns:
        The plan; `plan.explain()` says why.

    Raises:
        ValueError: the model cannot be handled, there is no such strategy, or the budget is too small for one channel.
        TypeError: `budget` is no `Budget`.
    """
    decide = find_strategy(strategy)
    return decide(make_task(model, x, loss, budget, **task_options))


def summed_cross_entropy(labels, *, from_logits: bool = True):
    """loss(outputs, indices) for `choose`: sum of cross-entropies of outputs (N, classes) against integer labels (N,)."""
    labels = np.asarray(labels)

    def loss(outputs, indices):
        losses = keras.losses.sparse_categorical_crossentropy(labels[indices], outputs, from_logits=from_logits)
        return keras.ops.sum(losses)

    return loss
