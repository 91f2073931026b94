"""Candidates: the layers among which a choice is made, and why the others are left out."""

import collections
import dataclasses
import numbers
import re
from collections.abc import Collection, Mapping, Sequence

from keras_tinytrain.model.layers import FROZEN, LayerInfo, LayerTable

KINDS = ("auto", "pointwise", "all")
MOST_REASONS = 4
_FIRST_CLAUSE = re.compile(r".*?(?=[;:.] |\.?$)")  # the first of a reason, without the remedy


def candidates(
    table: LayerTable, last_blocks: int = 6, *, layers: Sequence[str] | None = None, kinds: str = "auto"
) -> tuple[LayerInfo, ...]:
    """Layers to choose from: those called `layers`; or, of the last `last_blocks` blocks, those of the right kind.

    Args:
        table: the model's layers.
        last_blocks: see `LayerTable.candidates`.
        layers: names; these layers, whatever their place and kind.
        kinds: "auto": convolutions and dense layers, without depthwise ones; where an inverted bottleneck is in the same block
            or follows, 1x1 convolutions only. "pointwise": 1x1 convolutions and dense layers. "all": depthwise ones too.
            Where the last blocks have none of the kind, all their layers are candidates.

    Raises:
        ValueError: `kinds` is none of these, a named layer does not exist or cannot be trained, or nothing can.
        TypeError: `last_blocks` is no whole number, or `layers` is text in place of a list.
    """
    marked = with_candidates(table, last_blocks, layers=layers, kinds=kinds)
    return tuple(row for row in marked.weighted if not row.left_out)


def with_candidates(
    table: LayerTable,
    last_blocks: int = 6,
    *,
    layers: Sequence[str] | None = None,
    kinds: str = "auto",
    whole_only: Mapping[str, str] | None = None,
) -> LayerTable:
    """`table`, in which each layer with weights that is no candidate says why (`LayerInfo.left_out`); see `candidates`.

    Args:
        whole_only: {name: why} of layers whose channels cannot be trained one by one; only those named in `layers` are candidates.
    """
    if kinds not in KINDS:
        raise ValueError(f"kinds expects one of {', '.join(map(repr, KINDS))}. Received: {kinds!r}")
    if isinstance(layers, str):
        raise TypeError(f"layers expects a list of names. Received: {layers!r}. Use layers=[{layers!r}].")
    if not isinstance(last_blocks, numbers.Integral):
        raise TypeError(
            f"last_blocks expects a number of blocks. Received: {last_blocks!r}. Names of layers go into layers=[...]."
        )
    eligible = table.candidates(last_blocks, layers=layers)
    wrong_kind = {row.name: _wrong_kind(table, row, kinds) for row in eligible} if layers is None else {}
    if all(wrong_kind.values()):
        wrong_kind = {}
    wrong_kind |= whole_only or {} if layers is None else {}
    last = f"{last_blocks} blocks" if last_blocks > 1 else "block"
    elsewhere = f"before the last {last}" if layers is None else "not named"
    names = {row.name for row in eligible}

    def left_out(row):
        if row.reason:
            return (
                "frozen by trainable=False"
                if row.reason == FROZEN
                else f"{_FIRST_CLAUSE.match(row.reason)[0]} (not trainable here)"
            )
        return wrong_kind.get(row.name, "") if row.name in names or not row.has_channels else elsewhere

    return LayerTable(table.model_name, tuple(dataclasses.replace(row, left_out=left_out(row)) for row in table))


def _wrong_kind(table, row, kinds):
    """Why a layer of the last blocks is not of the right kind; "" where it is."""
    if kinds == "all" or row.pointwise:
        return ""
    if row.kind == "depthwise":
        return "depthwise"
    return "not 1x1" if kinds == "pointwise" or row.block <= table.last_bottleneck else ""


def candidates_line(table: LayerTable, names: Collection[str], first: Collection[str] = ()) -> str:
    """ "head: classes, trained whole; candidates: 6 of 14 layers; 5 depthwise, 2 before the last 6 blocks, 1 LSTM (not trainable here)".

    Args:
        table: as `with_candidates` gives it.
        names: of the candidates.
        first: names of layers that are trained whole, whether candidates or not.

    Of the reasons why layers are no candidates, the MOST_REASONS commonest are told.
    """
    rows = [row for row in table if row.has_channels or row.reason]
    others = [row for row in rows if row.name not in names]
    reasons = ("trained in any case" if row.name in first else row.left_out or "not scored" for row in others)
    counts = collections.Counter(reasons).most_common()
    told = ", ".join(f"{count} {reason}" for reason, count in counts[:MOST_REASONS])
    if len(counts) > MOST_REASONS:
        told += f", {sum(count for _, count in counts[MOST_REASONS:])} for other reasons"
    head = f"head: {', '.join(first)}, trained whole; " if first else ""
    return f"{head}candidates: {len(rows) - len(others)} of {len(rows)} layers" + (f"; {told}" if told else "")
