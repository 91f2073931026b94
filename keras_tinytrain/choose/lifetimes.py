"""A layer table as the device runs it: rows that share memory, steps of the backward pass, and lives of tensors.

The output of a row that shares memory lies in its input's; a tensor is known by the row that it begins with, its home.
"""

import functools
import math
from collections.abc import Iterable

from keras_tinytrain.choose.backward_pass import Step, with_gradient
from keras_tinytrain.model.layers import LayerInfo, LayerTable

_FUSED_INTO = (
    "conv",
    "depthwise",
    "dense",
    "add",
    "multiply",
    "pool",
    "max_pool",
)  # operators that apply an activation themselves


@functools.lru_cache(maxsize=64)
def homes(table: LayerTable) -> tuple[int, ...]:
    """Per row: the row in whose memory its output lies."""
    source, readers = _readers(table)
    home: list[int] = []
    for index, row in enumerate(table):
        can_fuse = row.kind == "activation" and row.can_fuse
        fused = can_fuse and _is_fused(table[source[index]], readers[source[index]])
        padded = row.kind == "pad" and all(_pads_by_itself(reader, row) for reader in readers[index])
        shares = bool(row.inputs) and (fused or padded or _is_no_operator(row))
        home.append(home[row.inputs[0]] if shares else index)
    return tuple(home)


def _readers(table: LayerTable) -> tuple[list[int], list[list[LayerInfo]]]:
    """Per row: the operator whose output is its first input, and the operators that read its own output."""
    computed: list[int] = []  # per row: the operator that computes its output
    source: list[int] = []
    readers: list[list[LayerInfo]] = [[] for _ in table]
    for index, row in enumerate(table):
        source.append(computed[row.inputs[0]] if row.inputs else index)
        computed.append(source[index] if _is_no_operator(row) else index)
        for tensor in {computed[i] for i in row.inputs} if computed[index] == index else ():
            readers[tensor].append(row)
    return source, readers


def _is_no_operator(row: LayerInfo) -> bool:
    """Whether nothing is left of a row on the device: Dropout, not Flatten, which copies."""
    return row.kind in ("identity", "batch_norm") and row.input_shape == row.output_shape


def _is_fused(producer: LayerInfo, readers: list[LayerInfo]) -> bool:
    """Whether an activation of the output of `producer`, which `readers` read, is applied by that operator itself."""
    is_global_pool = producer.kind in ("pool", "max_pool") and len(producer.output_shape) == 1
    return producer.kind in _FUSED_INTO and not is_global_pool and len(readers) == 1


def _pads_by_itself(row: LayerInfo, pad: LayerInfo) -> bool:
    """Whether a row is a convolution that surely takes over what `pad` pads: its kernel is wider."""
    padded = (after - before for before, after in zip(pad.input_shape, pad.output_shape))
    return row.kind in ("conv", "depthwise") and all(more < size for more, size in zip(padded, row.kernel_shape[:2]))


def table_steps(table: LayerTable, trained: Iterable[str]) -> list[Step]:
    """The rows with memory of their own as steps of the backward pass; tensors are numbered by their homes."""
    home, trained = homes(table), set(trained)
    activated = {home[index] for index, row in enumerate(table) if row.kind == "activation" and not row.reads_input}
    return [
        Step(
            inputs=tuple(home[source] for source in row.inputs),
            output=index,
            trained=row.name in trained,
            reads_input=row.kind == "max_pool" or row.reads_input,
            reads_output=index in activated,
            reads_other=row.kind == "multiply" and len(row.inputs) == 2,
            elementwise=row.kind in ("add", "activation", "identity"),
            depthwise=row.kind == "depthwise",
            pointwise=row.kind == "conv" and row.pointwise and row.input_shape[:2] == row.output_shape[:2],
        )
        for index, row in enumerate(table)
        if home[index] == index
    ]


@functools.lru_cache(maxsize=64)
def tensor_spans(table: LayerTable, start: int = 0, stop: int | None = None) -> dict[int, tuple[int, int]]:
    """{home: (first, last)}: its tensor is alive from row `first` to row `last`, for rows in [start, stop)."""
    home, spans = homes(table), dict[int, tuple[int, int]]()
    for index in range(start, len(table) if stop is None else stop):
        for tensor in (home[index], *(home[source] for source in table[index].inputs)):
            first, _ = spans.get(tensor, (index, index))
            spans[tensor] = (first, index)
    return spans


def gradient_spans(table: LayerTable, trained: Iterable[str]) -> dict[int, tuple[int, int]]:
    """`tensor_spans` of the tensors that a gradient flows into: it lives from the last reader back to the producer."""
    flows = with_gradient(table_steps(table, trained))
    return {home: span for home, span in tensor_spans(table).items() if home in flows}


def tensor_sizes(table: LayerTable) -> dict[int, int]:
    """Elements of every tensor, by its home."""
    return {home: math.prod(table[home].output_shape) for home in set(homes(table))}


def padded_copies(table: LayerTable, trained: frozenset[str]) -> dict[int, tuple[int, int]]:
    """{row: (first, last)}: paddings that the forward pass computes, though they share memory for the backward pass.

    The exporter gives a convolution's kernel another row and column where that makes it pad by itself, as "same" does. It does
    not change a kernel that is trained.
    """
    copies = {}
    for index, pad in enumerate(table):
        readers = [row for row, other in enumerate(table) if index in other.inputs]
        absorbed = all(table[row].name not in trained and absorbing_window(table[row], pad) for row in readers)
        if pad.kind == "pad" and homes(table)[index] != index and not absorbed:
            copies[index] = index, max(readers)
    return copies


def absorbing_window(row: LayerInfo, pad: LayerInfo) -> tuple[int, ...] | None:
    """The kernel with which padding "same" at some stride s pads as much as `pad` does before a convolution; None: there is none.

    It pads (outputs - 1) s + kernel - inputs. One more row or column of zeros in the kernel is one more of padding.
    """
    axes = zip(pad.input_shape, pad.output_shape, row.kernel_shape[:2], row.output_shape)
    sizes = [_absorbing_size(*axis) for axis in axes]
    return None if None in sizes else tuple(size for size in sizes if size)


def _absorbing_size(size: int, padded: int, kernel: int, outputs: int) -> int | None:
    for stride in range(1, size + 1):
        missing = padded - size - max((outputs - 1) * stride + kernel - size, 0)
        if outputs == -(-size // stride) and missing in (0, 1):
            return kernel + missing
    return None
