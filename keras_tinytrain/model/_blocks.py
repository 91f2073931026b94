"""Find the blocks of a network in its graph."""

from collections.abc import Sequence
from typing import Protocol


class Row(Protocol):
    """The part of a row of a `LayerTable` that blocks depend on, see `layers.LayerInfo`."""

    @property
    def kind(self) -> str: ...
    @property
    def inputs(self) -> tuple[int, ...]: ...
    @property
    def input_shape(self) -> tuple[int, ...]: ...
    @property
    def num_channels(self) -> int: ...
    @property
    def has_channels(self) -> bool: ...
    @property
    def pointwise(self) -> bool: ...


def find_blocks(rows: Sequence[Row]) -> list[int]:
    """Number of each row's block, from 0.

    A block ends at a tensor through which everything flows, unless that would separate a convolution from its activation or
    normalisation, an expansion from its depthwise layer, a depthwise layer from its projection, or a convolution from a
    narrowing 1x1 projection.

    Args:
        rows: of a `LayerTable`, in execution order; their `block` is not read.
    """
    blocks: list[int] = []
    block, begun = 0, False
    trunk: list[Row] = []  # rows with channels through which everything flows
    last_reader = _last_readers(rows)
    for index, row in enumerate(rows):
        blocks.append(block)
        begun = begun or row.has_channels
        if any(last_reader[i] > index for i in range(index)):
            continue
        if row.has_channels:
            trunk.append(row)
        if begun and index + 1 < len(rows) and _may_end(rows, index, trunk):
            block, begun, trunk = block + 1, False, []
    return blocks


def last_bottleneck(rows: Sequence[Row], blocks: Sequence[int]) -> int:
    """Number of the last block that is an inverted bottleneck: 1x1 expansion, depthwise layer, 1x1 projection to fewer channels.

    Args:
        rows: of a `LayerTable`.
        blocks: number of each row's block.

    Returns:
        -1 where there is none.
    """
    found = -1
    for block in sorted(set(blocks)):
        inside = [row for row, number in zip(rows, blocks, strict=True) if number == block and row.has_channels]
        depthwise = [index for index, row in enumerate(inside) if row.kind == "depthwise"]
        if depthwise and any(row.pointwise for row in inside[: depthwise[0]]) and _projects(inside, depthwise[-1]):
            found = block
    return found


def _projects(rows, depthwise):
    width = rows[depthwise].num_channels
    return any(row.pointwise and row.num_channels < width for row in rows[depthwise + 1 :])


def _may_end(rows, index, trunk):
    following = next((row for row in rows[index + 1 :] if row.has_channels), None)
    belongs_here = rows[index + 1].kind in ("activation", "batch_norm", "identity", "pool", "max_pool", "other")
    if following is None or belongs_here or rows[index].kind == "pad":
        return False
    if not trunk or trunk[-1].kind == "dense":
        return True
    projects = following.kind == "conv" and following.pointwise
    if trunk[-1].kind == "depthwise":
        return not projects
    if not trunk[-1].pointwise:
        return not (projects and following.num_channels < following.input_shape[-1])
    return not (following.kind == "depthwise" and len(trunk) == 1)


def _last_readers(rows):
    """Per row: index of the last row that reads its output (its own index where none does)."""
    last = list(range(len(rows)))
    for index, row in enumerate(rows):
        for source in row.inputs:
            last[source] = index
    return last
