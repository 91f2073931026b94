"""From when to when each tensor of a training step is needed, in rows of a layer table."""

import functools
import math

from keras_tinytrain.model.layers import LayerTable

_MAX_PLANES, _MAX_PLANE_FLOATS = 16, 1024  # kMaxPlanes in tinytrain_tables.h; 4 KB


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
            first, _ = spans.get(home, (index, index))
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


def planes_at_once(shape: tuple[int, ...]) -> int:
    """Channels of a depthwise layer's input, in the middle of a bottleneck, whose gradients exist at a time.

    Each int8 input or weight of the 1x1 convolution before is made a float once for all of them. They take 4 KB at most, and
    a quarter of the tensor.

    Args:
        shape: (height, width, channels).
    """
    return max(1, min(_MAX_PLANES, shape[-1] // 4, _MAX_PLANE_FLOATS // math.prod(shape[:-1])))


def bottleneck_middles(table: LayerTable, flows) -> dict[int, tuple[int, int]]:
    """{home: (row of the projection, channels at a time)} of tensors in the middle of inverted bottlenecks.

    Backwards from a 1x1 convolution to the depthwise layer right before it and, where the gradient goes on, to the 1x1
    convolution right before that. Nothing else may read what lies between them, and the gradient that goes on is whole: where
    one depthwise separable layer follows the other, every second one makes such a middle.

    Args:
        flows: homes that have a gradient.
    """
    readers = {home: set() for home in flows}
    for index, row in enumerate(table):
        for home in {home_of(table, source) for source in row.inputs} & set(flows):
            readers[home] |= set() if row.in_place else {index}
    middles = {}
    for project, row in enumerate(table):
        behind = home_of(table, row.inputs[0]) if row.inputs else project
        if not (_is_expansion(row) and table[behind].kind == "depthwise" and readers.get(behind) == {project}):
            continue
        before = home_of(table, table[behind].inputs[0])
        if before not in flows:
            middles[behind] = project, 1
            continue
        goes_on_whole = home_of(table, table[before].inputs[0]) not in middles
        if _is_expansion(table[before]) and readers[before] == {behind} and goes_on_whole:
            middles |= {behind: (project, 1), before: (project, planes_at_once(table[before].output_shape))}
    return middles


def _is_expansion(row):
    return row.kind == "conv" and row.pointwise and row.input_shape[:2] == row.output_shape[:2]


def peak_of_gradients(table: LayerTable, trained) -> int:
    """Elements of the float gradients alive at once, at most; the layers of a bottleneck take one step together."""
    spans = gradient_spans(table, trained)
    middles = bottleneck_middles(table, spans)
    together = {row: project for home, (project, _) in middles.items() for row in range(home, project)}
    merged = {
        home: (together.get(first, first), max(together.get(last, last), together.get(first, first)))
        for home, (first, last) in spans.items()
    }
    return peak_elements(table, merged, planes={home: count for home, (_, count) in middles.items()})


def peak_elements(table: LayerTable, spans: dict[int, tuple[int, int]], *, planes: dict[int, int] | None = None) -> int:
    """Elements alive at once, at most; of the tensors in `planes` so many channels."""
    moments = {first for first, _ in spans.values()}
    planes = planes or {}
    size = {home: math.prod((*table[home].output_shape[:-1], planes.get(home, table[home].output_shape[-1]))) for home in spans}
    return max(sum(size[home] for home, (first, last) in spans.items() if first <= now <= last) for now in moments)
