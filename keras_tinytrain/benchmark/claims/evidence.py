"""All figures of a network that the claims are about: published, computed in two accountings, and measured."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_tinytrain.benchmark.accuracy_tables import Interval
from keras_tinytrain.benchmark.claims.measured import METHODS
from keras_tinytrain.benchmark.cost import MIB, CostRow, cost_rows, full_train_bytes, method_plans, paper_tables
from keras_tinytrain.benchmark.equal_batch import EqualBatchRow, equal_batch_rows
from keras_tinytrain.benchmark.networks import Network

_TASK = ("domain", "task", "seed", "episode", "iterations", "budget")  # columns that name a task


@dataclasses.dataclass(frozen=True)
class Gain:
    """Accuracy of TinyTrain over FullTrain's on the same tasks.

    Args:
        relative: of the means, in percent of FullTrain's.
        points: mean difference with its interval.
    """

    relative: float
    points: Interval


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Of one network.

    Args:
        name: in the paper, or in `networks.NETWORKS`.
        cost, equal: {method: row} in the paper's accounting and at batch 1 with nothing left out; {} for networks that are not in
            the paper.
        full_at_batch_1: MiB of FullTrain in the paper's accounting at batch 1; None as above.
        board: {method: row of `measured.FIELDS`}.
        gains: "same" weights for both; with these, "averaged" answers of both, and those by the "closed form", of both or of "only ours"; "meta"-trained
            TinyTrain against FullTrain that is not; those that the results hold.
    """

    name: str
    cost: Mapping[str, CostRow]
    equal: Mapping[str, EqualBatchRow]
    full_at_batch_1: float | None
    board: Mapping[str, Mapping[str, str]]
    gains: Mapping[str, Gain]


def evidence(
    networks: Sequence[Network],
    measured: Sequence[Mapping[str, str]],
    accuracies: Sequence[Mapping[str, str]],
    meta_trained: str,
) -> list[Evidence]:
    """Of the paper's three networks, whose costs are computed here, and of the others among `networks`.

    Args:
        measured: rows of `measured.FIELDS`.
        accuracies: rows of `benchmark accuracy`.
        meta_trained: the weights in their column "pretrained" that were meta-trained; "" where none were.
    """
    tables = paper_tables()
    names = {network.paper_name: network.name for network in networks}
    rows = cost_rows(tables)
    found = []
    for paper_name, table in tables.items():
        cost = {row.method: row for row in rows if row.backbone == paper_name}
        equal = {row.method: row for row in equal_batch_rows(paper_name, table, method_plans(paper_name, table))}
        computed = paper_name, cost, equal, full_train_bytes(table, 1) / MIB
        found.append(Evidence(*computed, *_measured(names.get(paper_name, ""), measured, accuracies, meta_trained)))
    others = (network.name for network in networks if not network.paper_name)
    return found + [Evidence(name, {}, {}, None, *_measured(name, measured, accuracies, meta_trained)) for name in others]


def _measured(name, measured, accuracies, meta_trained):
    """(board, gains) of a network."""
    board = {METHODS[row["method"]]: row for row in measured if row["network"] == name}
    return board, gains([row for row in accuracies if row["backbone"] == name], meta_trained)


def gains(rows: Sequence[Mapping[str, str]], meta_trained: str) -> dict[str, Gain]:
    """Of the rows of one backbone in `benchmark accuracy`; see `Evidence.gains`."""
    plain = [row for row in rows if row["pretrained"] != meta_trained]
    meta = [row for row in rows if row["pretrained"] == meta_trained]
    pairs = {
        "same": _gain(plain, plain, "tinytrain", "full"),
        "averaged": _gain(plain, plain, "tinytrain_avg", "full_avg"),
        "closed form": _gain(plain, plain, "tinytrain_ridge_avg", "full_ridge_avg"),
        "only ours": _gain(plain, plain, "tinytrain_ridge_avg", "full_avg"),
        "meta": _gain(meta, plain, "tinytrain", "full"),
    }
    return {name: gain for name, gain in pairs.items() if gain is not None}


def _gain(rows, others, method, reference):
    """None where no task has both."""
    mine, theirs = _by_task(rows, method), _by_task(others, reference)
    shared = [task for task in mine if task in theirs]
    if not shared:
        return None
    more, less = (np.array([values[task] for task in shared]) for values in (mine, theirs))
    relative = 100 * (more.mean() / less.mean() - 1) if less.any() else math.nan
    return Gain(float(relative), Interval.of(more - less))


def _by_task(rows, method):
    return {tuple(row[field] for field in _TASK): 100 * float(row["accuracy"]) for row in rows if row["method"] == method}
