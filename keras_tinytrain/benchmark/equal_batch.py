"""Memory and compute of every method at batch 1, with everything that the paper's table leaves out."""

import dataclasses
import math

from keras_tinytrain._text import aligned
from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.lifetimes import gradient_spans, tensor_sizes
from keras_tinytrain.choose.selection import full_plan
from keras_tinytrain.model.layers import LayerTable
from keras_tinytrain.plan import Plan

NUM_SUPPORT = 25  # 5-way 5-shot


@dataclasses.dataclass(frozen=True)
class EqualBatchRow:
    """One method on one backbone at batch 1, float32, all in bytes or multiply-accumulates a sample.

    Args:
        trained: weight, gradient and Adam's two moments of every trained kernel element and bias.
        frozen: all other weights and biases.
        peak_activation: the largest input and output alive at once in the forward pass.
        saved: inputs of the trained layers, and one bit per ReLU6 output that the backward pass goes through.
        gradients: activation gradients alive at once.
        fisher: outputs of the candidate layers, kept for the scores, and one accumulator per channel.
        support: the labelled images, 8 bits a value.
        fisher_macs: backward pass of the scores, once per sample and task.
    """

    backbone: str
    method: str
    trained: int
    frozen: int
    peak_activation: int
    saved: int
    gradients: int
    fisher: int
    support: int
    forward_macs: int
    backward_macs: int
    fisher_macs: int

    @property
    def total(self) -> int:
        """All bytes; the Fisher pass is over when training begins, so the larger of the two counts."""
        training = self.saved + self.gradients
        held = self.trained + self.frozen + self.peak_activation + self.support
        return held + max(training, self.fisher)


def equal_batch_rows(backbone: str, table: LayerTable, plans: dict[str, Plan]) -> list[EqualBatchRow]:
    """A row for training everything and one for each of `plans`."""
    return [_row(backbone, table, method, plan) for method, plan in {"FullTrain": full_plan(table), **plans}.items()]


def fisher_elements(table: LayerTable, last_blocks: int = 6) -> int:
    """Outputs of the layers of the last blocks, on one sample: a Fisher pass keeps them."""
    return sum(math.prod(row.output_shape) for row in table.candidates(last_blocks))


def fisher_macs(table: LayerTable, last_blocks: int = 6) -> int:
    """Multiply-accumulates of the Fisher pass's backward half on one sample: input gradients only."""
    return paper_cost.backward_macs(table, {row.name: 0 for row in table.candidates(last_blocks)})


def equal_batch_text(rows: list[EqualBatchRow]) -> str:
    """The table in KB, with the ratios to FullTrain that remain."""
    parts = ("trained", "frozen", "peak_activation", "saved", "gradients", "fisher", "support", "total")
    lines = [("backbone", "method", *(part.replace("_", " ") for part in parts), "to full", "forward+backward MAC", "to full")]
    full = {row.backbone: row for row in rows if row.method == "FullTrain"}
    for row in rows:
        whole = full[row.backbone]
        macs, most = row.forward_macs + row.backward_macs, whole.forward_macs + whole.backward_macs
        kilobytes = (f"{getattr(row, part) / 1024:.0f}" for part in parts)
        ratios = f"1/{whole.total / row.total:.1f}", f"{macs / 1e6:.2f}M", f"1/{most / macs:.2f}"
        lines.append((row.backbone, row.method, *kilobytes, *ratios))
    title = f"At batch 1, nothing left out: KB of float32, {NUM_SUPPORT} support images of 8 bits"
    return f"{title}\n\n{aligned(lines, num_left=2)}\n"


def _largest_gradients(table, trained):
    """Elements of the gradients alive at once, at most."""
    spans, size = gradient_spans(table, trained), tensor_sizes(table)
    moments = {first for first, _ in spans.values()}
    return max(sum(size[home] for home, (first, last) in spans.items() if first <= now <= last) for now in moments)


def _row(backbone, table, method, plan):
    choice = paper_cost.num_channels(plan)
    trained = sum((table[name].weights_per_channel + table[name].has_bias) * count for name, count in choice.items())
    everything = sum(row.num_weights + row.has_bias * row.num_channels for row in table.weighted)
    downstream = table.downstream(choice)
    masks = sum(math.prod(row.output_shape) for row, follows in zip(table, downstream) if follows and row.kind == "activation")
    scores = method == "TinyTrain"
    return EqualBatchRow(
        backbone=backbone,
        method=method,
        trained=16 * trained,
        frozen=4 * (everything - trained),
        peak_activation=4 * paper_cost.peak_activation(table),
        saved=4 * sum(paper_cost.input_size(table, table[name]) for name in choice) + masks // 8,
        gradients=4 * _largest_gradients(table, choice),
        fisher=4 * (fisher_elements(table) + sum(row.num_channels for row in table.candidates(6))) if scores else 0,
        support=NUM_SUPPORT * math.prod(table[0].output_shape),
        forward_macs=paper_cost.forward_macs(table),
        backward_macs=paper_cost.backward_macs(table, choice),
        fisher_macs=fisher_macs(table) if scores else 0,
    )
