"""Instructions and cycles of a forward pass by TensorFlow Lite Micro on a Cortex-M4, from the shapes of its operators.

Each operator has a few counts (multiply-accumulates, outputs, values that are copied, ...), and each count has a price in
instructions and one in cycles. The sum is within 2 % of what the networks take that the prices were measured on.
"""

import dataclasses
import math

from keras_tinytrain.choose._kernel_prices import PRICES
from keras_tinytrain.choose.arena import MicroGraph
from keras_tinytrain.choose.kernels import Operator

_OPENING = (1240, 1850)  # instructions and cycles of an output channel: within 12 % on ten models


@dataclasses.dataclass(frozen=True)
class Work:
    """What a part of a program takes on a board.

    Args:
        instructions, cycles: of the processor.
        stalls: those of the cycles in which it waits for flash.
    """

    instructions: int = 0
    cycles: int = 0
    stalls: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.instructions + other.instructions, self.cycles + other.cycles, self.stalls + other.stalls)

    def __mul__(self, times: float) -> "Work":
        return Work(round(self.instructions * times), round(self.cycles * times), round(self.stalls * times))


def forward_work(graph: MicroGraph, kernels: str) -> Work:
    """Of one forward pass.

    Args:
        graph: of `export.tflite.micro_graph` or `choose.table_graph`.
        kernels: a key of `choose.arena.KERNELS`.
    """
    return sum((operator_work(operator, kernels) for _, operator in graph.operators), Work())


def opening_work(graph: MicroGraph) -> Work:
    """Of AllocateTensors: nearly all of it computes the multipliers of the output channels."""
    return Work(*_OPENING) * sum(operator.channels for _, operator in graph.operators)


def graph_macs(graph: MicroGraph) -> int:
    """Multiply-accumulates of one forward pass, taps in the padding included; only convolutions and dense layers count."""
    return sum(_macs(operator) for _, operator in graph.operators)


def operator_work(operator: Operator, kernels: str) -> Work:
    """Of one operator. One that no price is known of is taken for an addition, unknown kernels for the reference kernels."""
    group, counts = _counts(operator)
    prices = PRICES.get(kernels, PRICES["reference"])
    found = prices.get(group, prices["ADD"])
    instructions, cycles = (sum(count * price[i] for count, price in zip(counts, found)) for i in range(2))
    return Work(round(instructions), round(cycles))


def _macs(op: Operator) -> int:
    if op.kind == "DEPTHWISE_CONV_2D":
        return math.prod(op.output) * op.taps
    if op.kind == "CONV_2D":
        return math.prod(op.output) * op.taps * op.input[-1]
    return _dense_macs(op) if op.kind == "FULLY_CONNECTED" else 0


def _dense_macs(op: Operator) -> int:
    """Of each vector along the last axis; a vector alone is the commonest case."""
    return math.prod(op.input) * op.output[-1]


def _counts(op: Operator) -> tuple[str, tuple[int, ...]]:
    """The operator's row of prices, and how often each is paid."""
    outputs, inputs = math.prod(op.output), math.prod(op.input)
    if op.kind == "CONV_2D":
        return _convolution(op, outputs)
    if op.kind == "DEPTHWISE_CONV_2D":
        return _depthwise(op, outputs)
    if op.kind == "FULLY_CONNECTED":
        return op.kind, (outputs, _dense_macs(op))
    return op.kind, (1, max(inputs, outputs))


def _convolution(op: Operator, outputs: int) -> tuple[str, tuple[int, ...]]:
    """A window of 1 x 1 is a matrix product, 16 inputs at a time; others copy the inputs of two positions first."""
    channels, positions, taps = op.output[-1], outputs // op.output[-1], op.taps
    depth = taps * op.input[-1]
    if taps == 1 and op.strides == (1, 1):
        rest, odd = depth % 16, depth % 4
        return "pointwise", (
            outputs,
            outputs * (depth - rest),
            outputs * (rest - odd),
            outputs * odd,
            channels * depth,
            channels,
        )
    return "convolution", (outputs, outputs * depth, positions * depth, positions * taps, outputs * (depth % 4))


def _depthwise(op: Operator, outputs: int) -> tuple[str, tuple[int, ...]]:
    """Products with the padding are cheaper, or left out."""
    channels, positions = op.output[-1], outputs // op.output[-1]
    inside = math.prod(map(products_inside, op.input, op.output, op.window, op.strides, op.pads)) * channels
    if channels != op.input[-1]:
        return "depthwise multiplied", (outputs, inside)
    group = "depthwise 3x3" if op.window == (3, 3) and max(op.pads) <= 1 else "depthwise"
    return group, (outputs, inside, outputs * op.taps - inside, positions * op.taps)


def products_inside(size: int, outputs: int, window: int, stride: int, pad: int) -> int:
    """Products of a window with its input along one axis, those with the padding left out."""
    starts = [position * stride - pad for position in range(outputs)]
    return sum(max(0, min(size, start + window) - max(0, start)) for start in starts)
