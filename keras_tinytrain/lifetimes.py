"""From when to when each tensor of a training step is needed, in rows of a layer table."""

import functools
import math

from keras_tinytrain.layers import LayerTable


def home_of(table: LayerTable, index: int) -> int:
    """The row in whose memory the output of row `index` lives: an activation works in its producer's."""
    while table[index].in_place and table[index].inputs:
        index = table[index].inputs[0]
    return index


@functools.lru_cache(maxsize=64)
def tensor_spans(table: LayerTable, start: int = 0, stop: int | None = None) -> dict[int, tuple[int, int]]:
    """{home: (first, last)}: its tensor is alive from row `first` to row `last`, for rows in [start, stop)."""
    spans = {}
    for index in range(start, len(table) if stop is None else stop):
        for home in (home_of(table, index), *(home_of(table, source) for source in table[index].inputs)):
            first, last = spans.get(home, (index, index))
            spans[home] = (first, index)
    return spans


def kept_tensors(table: LayerTable, trained) -> set[int]:
    """Homes of what the backward pass reads: inputs of the layers `trained`, outputs of activations on its way."""
    behind = table.downstream(trained)
    inputs = {home_of(table, table[name].inputs[0]) for name in trained}
    return inputs | {home_of(table, i) for i, row in enumerate(table) if row.kind == "activation" and behind[i]}


def gradient_spans(table: LayerTable, trained) -> dict[int, tuple[int, int]]:
    """Spans of the tensors that have a gradient: it lives from its tensor's last reader back to its producer."""
    behind = table.downstream(trained)
    flows = {home_of(table, index) for index, row in enumerate(table) if behind[index] or row.name in trained}
    return {home: span for home, span in tensor_spans(table).items() if home in flows}


def peak_elements(table: LayerTable, spans: dict[int, tuple[int, int]]) -> int:
    """Elements alive at once, at most."""
    moments = {first for first, _ in spans.values()}
    size = {home: math.prod(table[home].output_shape) for home in spans}
    return max(sum(size[home] for home, (first, last) in spans.items() if first <= now <= last) for now in moments)
