"""A layer table as TensorFlow Lite Micro will count the memory of its export: an estimate before anything is exported."""

import dataclasses
import math
from collections.abc import Sequence

from keras_tinytrain.choose.arena import MicroGraph
from keras_tinytrain.choose.backward_pass import values_read
from keras_tinytrain.choose.kernels import Operator
from keras_tinytrain.choose.lifetimes import absorbing_window, homes, padded_copies, table_steps, tensor_spans
from keras_tinytrain.model.layers import LayerInfo, LayerTable
from keras_tinytrain.tflm_runtime.rounding import align

_KINDS = {
    "conv": ("CONV_2D",),
    "depthwise": ("DEPTHWISE_CONV_2D",),
    "dense": ("FULLY_CONNECTED",),
    "add": ("ADD",),
    "multiply": ("MUL",),
    "concatenate": ("CONCATENATION",),
    "pool": ("AVERAGE_POOL_2D",),
    "max_pool": ("MAX_POOL_2D",),
    "activation": ("PRELU",),
    "batch_norm": ("MUL", "ADD"),
    "pad": ("PAD",),
}
_OF_VECTORS = {"pool": ("MEAN",), "max_pool": ("REDUCE_MAX",)}  # over all positions
_SPLIT = ("CONCATENATION", "GATHER")  # after both convolutions, see `export.backward.selected`
_TENSORS = 3  # of an operator, at most: its output and two constants


def table_graph(
    table: LayerTable,
    start: int,
    stop: int,
    trained: frozenset[str] = frozenset(),
    split: frozenset[str] = frozenset(),
    maps: Sequence[str] = (),
) -> MicroGraph:
    """The operators of rows [start, stop) and their tensors; an operator runs at the moment of its row's number.

    Args:
        table: of a model in canonical form.
        trained: names of layers that are trained. The values that their training reads are outputs, alive to the end.
        split: those whose trained channels become a convolution of their own.
        maps: names of layers whose outputs a closed-form head reads: outputs too.
    """
    spans = dict(tensor_spans(table, start, stop))
    spans |= {row: span for row, span in padded_copies(table, trained).items() if start <= row < stop}
    read = values_read(table_steps(table, trained)) | {homes(table)[table.index(name)] for name in maps}
    kept = read.intersection(spans)
    sizes = {row: align(math.prod(table[row].output_shape)) for row in spans}
    activations = [(sizes[row], first, stop if row in kept else last) for row, (first, last) in sorted(spans.items())]
    parts = [(sizes[row], row, row) for row in spans if table[row].name in split]
    rows = [row for row in sorted(spans) if row >= start and table[row].kind != "input" and (row > start or not start)]
    operators = [
        (row, operator) for row in rows for operator in _operators(_as_run(table, row, spans), table[row].name in split)
    ]
    return MicroGraph(
        activations=(*activations, *parts),
        operators=tuple(operators),
        num_tensors=1 + _TENSORS * len(operators),
        num_outputs=len(kept) + 1,
    )


def _as_run(table: LayerTable, index: int, spans: dict[int, tuple[int, int]]) -> LayerInfo:
    """A row; one that takes over the padding before it has the kernel of its export, and the input of the padding."""
    row = table[index]
    pad = row.inputs[0] if row.inputs and table[row.inputs[0]].kind == "pad" else index
    if pad == index or pad in spans or not (window := absorbing_window(row, table[pad])):
        return row
    kernel_shape = (*window, *row.kernel_shape[len(window) :])
    return dataclasses.replace(row, input_shape=table[pad].input_shape, kernel_shape=kernel_shape, padding="same")


def _operators(row: LayerInfo, is_split: bool) -> list[Operator]:
    """What a row becomes: one operator, except that one-dimensional convolutions are reshaped before and after."""
    kinds = _OF_VECTORS if len(row.output_shape) == 1 and row.kind in _OF_VECTORS else _KINDS
    before, after, is_sequence = (
        row.input_shape,
        row.output_shape,
        row.kind in ("conv", "depthwise") and len(row.input_shape) == 2,
    )
    if is_sequence:
        before, after = (1, *before), (1, *after)
    operators = [_operator(kind, row, before, after) for kind in kinds.get(row.kind, ("RESHAPE",))]
    reshapes = [Operator("RESHAPE", before, after)] * (2 * is_sequence)
    parts = [operators[0]._replace(channels=0), *(Operator(kind, before, after) for kind in _SPLIT)] if is_split else []
    return [*operators, *parts, *reshapes]


def _operator(kind: str, row: LayerInfo, before: tuple[int, ...], after: tuple[int, ...]) -> Operator:
    if kind not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return Operator(kind, before, after)
    height, width = (1, 1, *row.kernel_shape[:-2])[-2:]
    strides = (1, *row.strides)[-2:] if row.strides else (0, 0)
    steps, pads = zip(*(_step(*axis, row.padding) for axis in zip(before, after, (height, width), strides)))
    return Operator(kind, before, after, (height, width), steps, pads, row.num_channels)


def _step(size: int, outputs: int, window: int, stride: int, padding: str) -> tuple[int, int]:
    """The stride and the padding before the first value along one axis.

    Where a table says neither (0, ""): the smallest stride that gives so many outputs, with padding "same" or "valid".
    """
    for step in (stride,) if stride else range(1, size + 1):
        if padding != "valid" and outputs == -(-size // step):
            return step, max((outputs - 1) * step + window - size, 0) // 2
        if padding != "same" and window <= size and outputs == (size - window) // step + 1:
            return step, 0
    return stride or 1, 0
