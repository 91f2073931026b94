"""Score a model on samples and choose layers and channels within a budget: from model and data to a `Plan`."""

from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_tinytrain.choose.protocols import Loss, Scorer
from keras_tinytrain.choose.strategies import find_strategy, make_task
from keras_tinytrain.plan import Budget, Plan


def choose(
    model: keras.Model,
    x: ArrayLike,
    loss: Loss,
    budget: Budget,
    *,
    scorer: Scorer | None = None,
    strategy: str = "fisher",
    **task_options: Any,
) -> Plan:
    """The layers and channels of `model` that `strategy` trains for the samples `x`, within `budget`.

    Every plan is chosen here: for `fit`, for few-shot adaptation, on the command line.

    Args:
        model: a built Functional or Sequential model; not changed.
        x: float array (N, ...) of samples.
        loss: loss(outputs, indices) -> SUM of the losses of the samples `indices`.
        budget: memory and compute.
        scorer: layer names -> their Fisher information, where the caller has a faster way to it; None: `fisher_information`.
        strategy: a key of `strategies.STRATEGIES`.
        task_options: of `strategies.make_task`: last_blocks, layers, kinds, accounting, rule, seed, frozen, whole_only, head.

    Returns:
        The plan; `plan.explain()` says why.

    Raises:
        ValueError: the model cannot be handled, there is no such strategy, or the budget is too small for
            the head, or for one channel.
        TypeError: `budget` is no `Budget`.
    """
    decide = find_strategy(strategy)
    task = make_task(model, x, loss, budget, scorer=scorer, **task_options)
    return task.with_head(decide(task))


def summed_cross_entropy(labels: ArrayLike, *, from_logits: bool = True) -> Loss:
    """loss(outputs, indices) for `choose`: sum of cross-entropies of outputs (N, classes) against integer labels (N,)."""
    labels = np.asarray(labels)

    def loss(outputs, indices):
        losses = keras.losses.sparse_categorical_crossentropy(labels[indices], outputs, from_logits=from_logits)
        return keras.ops.sum(losses)

    return loss
