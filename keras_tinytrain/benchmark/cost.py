"""`keras-tinytrain benchmark cost`: memory and backward MACs of every method, beside the paper's figures."""

import argparse
import dataclasses
import json
import math

import numpy as np

from keras_tinytrain import backbones
from keras_tinytrain._text import aligned
from keras_tinytrain.benchmark.equal_batch import equal_batch_rows, equal_batch_text
from keras_tinytrain.benchmark.published import PAPER, SPARSE_UPDATE, TYPICAL_LAYERS
from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.schemes import scheme_plan
from keras_tinytrain.choose.selection import Ranking, last_layer_plan, select
from keras_tinytrain.model.layers import LayerTable, layer_table
from keras_tinytrain.plan import Budget, Plan

MIB = 2**20
FULL_TRAIN_BATCH = 100  # the published memory of FullTrain is at this batch, every other row at 1

_NOTES = """
MAC = multiply-accumulates of one sample's backward pass; MB = MiB, float32, kernels only. FullTrain's memory is at batch 100.
LastLayer on MCUNet: the paper prints 1.57 M, but its own ratio to the other rows speaks for 1.47.
TinyTL: the paper does not say enough to compute it.
SparseUpdate: the paper's schemes for MobileNetV2 and ProxylessNASNet are not public; shown are those nearest in memory.
TinyTrain: the paper's figures are means over tasks; shown is the plan that fills them with the layers that most tasks choose.
"""


@dataclasses.dataclass(frozen=True)
class CostRow:
    """One method on one backbone. None where the published text does not say enough to compute it."""

    backbone: str
    method: str
    memory_mib: float | None
    backward_macs: int | None
    paper_memory_mb: float
    paper_macs: float


def run(args: argparse.Namespace) -> int:
    """Print the tables. Returns the exit code 0."""
    tables = paper_tables()
    if args.json:
        rows = _equal_batch(tables) if args.equal_batch else cost_rows(tables)
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
        return 0
    if not args.equal_batch:
        print(cost_text(cost_rows(tables)))
    print(equal_batch_text(_equal_batch(tables)))
    return 0


def _equal_batch(tables):
    return [row for name, table in tables.items() for row in equal_batch_rows(name, table, method_plans(name, table))]


def paper_tables() -> dict[str, LayerTable]:
    """The paper's networks at 128x128, with the mix layer that its accounting counts."""
    return {
        "MCUNet": layer_table(backbones.MCUNet(weights=None)),
        "MobileNetV2": layer_table(backbones.MobileNetV2(weights=None, mix=True)),
        "ProxylessNASNet": layer_table(backbones.ProxylessNASNet(weights=None, mix=True)),
    }


def cost_rows(tables: dict[str, LayerTable]) -> list[CostRow]:
    """The paper's memory and compute table."""
    rows = []
    for (backbone, method), (paper_memory, paper_macs) in PAPER.items():
        memory, macs = _computed(backbone, tables[backbone], method)
        rows.append(CostRow(backbone, method, memory, macs, paper_memory, paper_macs))
    return rows


def method_plans(backbone: str, table: LayerTable) -> dict[str, Plan]:
    """{method: plan} of the methods that train some channels."""
    memory, macs = PAPER[backbone, "TinyTrain"]
    budget = Budget(int(memory * MIB), macs)
    return {
        "LastLayer": last_layer_plan(table),
        "SparseUpdate": scheme_plan(table, SPARSE_UPDATE[backbone]),
        "TinyTrain": select(table, _typical_ranking(backbone, table), budget, accounting=paper_cost.PaperAccounting()),
    }


def cost_text(rows: list[CostRow]) -> str:
    """The paper's table, the published figures beside the computed ones."""
    lines = [("backbone", "method", "MB", "paper", "diff.", "backward MAC", "paper", "diff.")]
    for row in rows:
        memory = _compared(row.memory_mib, row.paper_memory_mb, "{:.2f}")
        macs = _compared(row.backward_macs and row.backward_macs / 1e6, row.paper_macs / 1e6, "{:.2f}M")
        lines.append((row.backbone, row.method, *memory, *macs))
    return f"{aligned(lines, num_left=2)}\n{_NOTES}"


def full_train_bytes(table: LayerTable, batch: int) -> int:
    """batch * (conv inputs + conv outputs, which BatchNorm reads, + ReLU6 inputs) * 4 B + 4 copies of the weights * 4 B."""
    rows = table.weighted
    elements = sum(paper_cost.input_size(table, row) + math.prod(row.output_shape) for row in rows)
    elements += sum(math.prod(row.output_shape) for row in table if row.kind == "activation")
    return 4 * batch * elements + 16 * sum(row.num_weights for row in rows)


def _typical_ranking(backbone, table):
    names = TYPICAL_LAYERS[backbone]
    channels = {name: np.ones(table[name].num_channels) for name in names}
    return Ranking({name: float(len(names) - rank) for rank, name in enumerate(names)}, channels)


def _computed(backbone, table, method):
    """(memory in MiB, backward MACs)."""
    if method == "FullTrain":
        return full_train_bytes(table, FULL_TRAIN_BATCH) / MIB, paper_cost.full_backward_macs(table)
    if method == "TinyTL":
        return None, None
    choice = paper_cost.num_channels(method_plans(backbone, table)[method])
    macs = paper_cost.backward_macs(table, choice)
    if method == "SparseUpdate" and "mix" in table.names:
        macs -= table["mix"].macs  # its networks have no such layer
    return paper_cost.PaperAccounting().memory_bytes(table, choice) / MIB, macs


def _compared(computed, published, form):
    """(computed, published, relative difference) as text."""
    if computed is None:
        return "-", form.format(published), "-"
    return form.format(computed), form.format(published), f"{100 * (computed / published - 1):+.1f} %"
