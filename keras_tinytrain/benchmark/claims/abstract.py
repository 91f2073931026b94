"""The seven claims of the paper's abstract (Kwon et al., ICML 2024), each as columns of figures by network."""

import dataclasses
import math
from collections.abc import Callable, Mapping

from keras_tinytrain.benchmark import published
from keras_tinytrain.benchmark.claims.evidence import Evidence
from keras_tinytrain.benchmark.cost import MIB

Figure = Callable[[Evidence], float | None]
PAPER, OURS = "paper", "the same accounting"
CHOSEN = "TinyTrain, chosen on the board"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim, and the figures that speak of it.

    Args:
        title: in the abstract's words.
        against: what the paper set TinyTrain against, and how it counted.
        columns: {heading: figure of a network, None where there is none}.
        form: of the figures.
        remark: what can be reproduced, and what cannot and why.
    """

    title: str
    against: str
    columns: Mapping[str, Figure]
    form: str
    remark: str


def _ratio(figure: Callable[[Evidence, str], float | None], more: str, less: str = "TinyTrain") -> Figure:
    def ratio(network):
        above, below = figure(network, more), figure(network, less)
        return above / below if above and below else None

    return ratio


def _cost(field, unit=1.0):
    return lambda network, method: getattr(network.cost[method], field) / unit if method in network.cost else None


def _equal(figure):
    return lambda network, method: figure(network.equal[method]) if method in network.equal else None


def _board(field):
    return lambda network, method: float(network.board[method][field]) if method in network.board else None


def _printed(table):
    return lambda network, method: table.get(network.name, {}).get(method)


def _of(figure, method="TinyTrain", unit=1.0):
    def of(network):
        value = figure(network, method)
        return None if value is None else value / unit

    return of


def _relative(table):
    def gain(network):
        ratio = _ratio(_printed(table), "TinyTrain", "FullTrain")(network)
        return None if ratio is None else 100 * (ratio - 1)

    return gain


def _gain(name, figure):
    def of(network):
        value = figure(network.gains[name]) if name in network.gains else None
        return None if value is None or math.isnan(value) else value

    return of


def _at_batch_1(network):
    tiny = _cost("memory_mib")(network, "TinyTrain")
    return network.full_at_batch_1 / tiny if network.full_at_batch_1 and tiny else None


_TOTAL = _equal(lambda row: row.total)
_MACS = _equal(lambda row: row.forward_macs + row.backward_macs)


def _measured(field: str, what: str, more: str = "FullTrain") -> dict[str, Figure]:
    return {what: _ratio(_board(field), more), f"{what}, chosen there": _ratio(_board(field), more, CHOSEN)}


CLAIMS = (
    Claim(
        "3.6 to 5.0 % more accuracy than FullTrain",
        "The gain is relative to FullTrain's accuracy, a mean over nine domains. TinyTrain is meta-trained, FullTrain is not.",
        {
            PAPER: _relative(published.ACCURACY),
            "paper, both meta-trained": _relative(published.META_TRAINED),
            "TinyTrain meta-trained, FullTrain not": _gain("meta", lambda gain: gain.relative),
            "same weights": _gain("same", lambda gain: gain.relative),
            "same weights, points": _gain("same", lambda gain: gain.points.mean),
            "+-": _gain("same", lambda gain: gain.points.half),
            "tasks": _gain("same", lambda gain: gain.points.count),
            "answers of both averaged": _gain("averaged", lambda gain: gain.relative),
            "answers of both averaged, points": _gain("averaged", lambda gain: gain.points.mean),
            "averaged: +-": _gain("averaged", lambda gain: gain.points.half),
            "averaged: tasks": _gain("averaged", lambda gain: gain.points.count),
            "closed-form heads of both averaged, points": _gain("closed form", lambda gain: gain.points.mean),
            "closed form: +-": _gain("closed form", lambda gain: gain.points.half),
            "closed-form head of TinyTrain alone, points": _gain("only ours", lambda gain: gain.points.mean),
            "alone: +-": _gain("only ours", lambda gain: gain.points.half),
        },
        "{:+.1f}",
        "Accuracy is no accounting: it cannot be computed from the paper. The pre-training makes the published gain, for which the "
        "paper's weights are not public. With the same ImageNet weights for both, the two differ by as much as the last columns say.",
    ),
    Claim(
        "up to 1,098 times less memory for the backward pass",
        "FullTrain's memory is that of a batch of 100, TinyTrain's that of one sample: float32 kernels with gradient and two moments, "
        "and activations. Frozen weights, biases, masks, samples and the Fisher pass are in neither.",
        {
            PAPER: _ratio(_cost("paper_memory_mb"), "FullTrain"),
            OURS: _ratio(_cost("memory_mib"), "FullTrain"),
            "the same at batch 1": _at_batch_1,
            "batch 1, nothing left out": _ratio(_TOTAL, "FullTrain"),
            **_measured("sram_bytes", "SRAM of the board"),
        },
        "{:,.2f}",
        "Nearly all of the ratio is the batch: FullTrain's activations grow with it. What remains at batch 1 stands after it, then with all that the paper leaves out.",
    ),
    Claim(
        "7.68 times less compute for the backward pass",
        "Multiply-accumulates of one sample's backward pass. Forward passes and the choice of channels are in neither.",
        {
            PAPER: _ratio(_cost("paper_macs"), "FullTrain"),
            OURS: _ratio(_cost("backward_macs"), "FullTrain"),
            "forward pass included": _ratio(_MACS, "FullTrain"),
            **_measured("instructions", "instructions of a task"),
        },
        "{:.2f}",
        "TinyTrain's published figures are means over tasks. Ours are those of one plan within the same memory and compute, of the "
        "layers that most tasks choose. On MobileNetV2 it fills the memory first and leaves compute, so that this row is not the paper's. "
        "On the board the frozen part runs once per sample, which FullTrain cannot have.",
    ),
    Claim(
        "9.5 times faster",
        "Minutes of a task on a Raspberry Pi Zero 2, in float32, FullTrain in batches.",
        {
            PAPER: _ratio(_printed(published.MINUTES), "FullTrain"),
            **_measured("cycles", "cycles of a task"),
            **_measured("seconds", "seconds on this processor"),
        },
        "{:.2f}",
        "The minutes are printed as whole numbers, whose ratios are shown; the abstract's figure is near their mean. Neither that "
        "board nor the paper's program is at hand, so the same accounting cannot be computed.",
    ),
    Claim(
        "3.5 times less energy",
        "Kilojoules of the same tasks on the same board, measured.",
        {PAPER: _ratio(_printed(published.KILOJOULES), "FullTrain"), **_measured("joules", "joules of a task")},
        "{:.2f}",
        "The abstract's figure is the mean of the three. Ours are the cycles times the data sheet's current of a running Cortex-M4F, "
        "so that the ratio is that of the times; a Raspberry Pi also spends energy while it waits.",
    ),
    Claim(
        "2.23 times less memory than the best rival",
        "SparseUpdate, in the accounting of the second claim, both at batch 1.",
        {
            PAPER: _ratio(_cost("paper_memory_mb"), "SparseUpdate"),
            OURS: _ratio(_cost("memory_mib"), "SparseUpdate"),
            "batch 1, nothing left out": _ratio(_TOTAL, "SparseUpdate"),
            **_measured("sram_bytes", "SRAM of the board", "SparseUpdate"),
        },
        "{:.2f}",
        "The scheme of SparseUpdate is public for MCUNet. Those of the paper for the other two networks are not; the public ones that "
        "are nearest in memory stand in their place, so these rows cannot be reproduced.",
    ),
    Claim(
        "within 1 MB",
        "TinyTrain's memory in the accounting of the second claim, in MB (MiB).",
        {
            PAPER: _of(_cost("paper_memory_mb")),
            OURS: _of(_cost("memory_mib")),
            "batch 1, nothing left out": _of(_TOTAL, unit=MIB),
            "SRAM of the board": _of(_board("sram_bytes"), unit=MIB),
            "flash of the board": _of(_board("flash_bytes"), unit=MIB),
            "SRAM, chosen there": _of(_board("sram_bytes"), CHOSEN, MIB),
        },
        "{:.2f}",
        "Frozen weights and activations of float32 take more than the paper counts. On the board weights and activations are int8.",
    ),
)
