"""Score a model on labelled samples and choose what to train within a budget: from model and data to a `Plan`."""

import dataclasses

import keras
import numpy as np

from keras_tinytrain import selection
from keras_tinytrain.fisher import fisher_information
from keras_tinytrain.fold import fold_batch_norm
from keras_tinytrain.layers import LayerTable, layer_table
from keras_tinytrain.plan import Budget, Plan


@dataclasses.dataclass(frozen=True)
class Choice:
    """A plan and what it was chosen from.

    Args:
        plan: what to train.
        table: the layers of the canonical model.
        scores: {layer name: Fisher information of its channels}.
        ranking: the strategy's scores of layers and channels.
    """

    plan: Plan
    table: LayerTable
    scores: dict[str, np.ndarray]
    ranking: selection.Ranking


def choose(
    model: keras.Model,
    x,
    loss,
    budget: Budget,
    *,
    inspect=6,
    kinds: str = "pointwise",
    criterion: str = "P/(W*M)",
    accounting=None,
) -> Choice:
    """Fisher information of the candidate layers on `x`, ranked by `criterion`, chosen within `budget`.

    Args:
        model: a built Functional or Sequential model; not changed.
        x: float array (N, ...) of samples.
        loss: loss(outputs, indices) -> SUM of the losses of the samples `indices`.
        budget: memory and compute.
        inspect, kinds: which layers are candidates, see `selection.candidates`.
        criterion: a key of `selection.CRITERIA`.
        accounting: what the memory budget counts, see `selection.select`.

    Raises:
        ValueError: the model cannot be handled, or the budget is too small for one channel.
    """
    canonical = fold_batch_norm(model)
    table = layer_table(canonical)
    rows = selection.candidates(table, inspect, kinds=kinds)
    scores = fisher_information(canonical, np.asarray(x, np.float32), loss, [row.name for row in rows])
    ranking = selection.fisher_ranking(rows, scores, criterion=criterion)
    return Choice(selection.select(table, ranking, budget, accounting=accounting), table, scores, ranking)


def summed_cross_entropy(labels, *, from_logits: bool = True):
    """loss(outputs, indices) for `choose`: sum of cross-entropies of outputs (N, classes) against integer labels (N,)."""
    labels = np.asarray(labels)

    def loss(outputs, indices):
        losses = keras.losses.sparse_categorical_crossentropy(labels[indices], outputs, from_logits=from_logits)
        return keras.ops.sum(losses)

    return loss
