"""The maps inside a network from which a closed-form head reads, and the network that gives them beside its embedding."""

import math
from collections.abc import Sequence

import keras

from keras_tinytrain.model.graph import walk
from keras_tinytrain.model.layers import LayerInfo, LayerTable

POSITIONS = 3  # to which a map is pooled along each axis


def find_maps(table: LayerTable) -> tuple[str, ...]:
    """Names of the layers whose outputs are the maps: of the first block at the last resolution, of the last block but one,
    and of the last block.

    In a network without inverted bottlenecks, the last map at each of the last three resolutions. A network without maps
    gives none.
    """
    ends = {row.block: row for row in table if row.block in table.body_blocks and _is_map(row)}
    maps = list(ends.values())
    if table.last_bottleneck < 0:
        return tuple({row.output_shape[:-1]: row.name for row in maps}.values())[-3:]
    first = next((row for row in maps if row.output_shape[:-1] == maps[-1].output_shape[:-1]), None)
    return tuple(row.name for row in maps if row is first or row in maps[-2:])


def in_time(places: Sequence[int]) -> bool:
    """Whether a network whose input has these places, (steps,) or (height, width), reads windows in time: one of them is 1."""
    return len(places) == 1 or (len(places) == 2 and 1 in places)


def positions(size: int) -> tuple[int, int, int]:
    """(positions that pooling leaves of so many along one axis, its window, its stride)."""
    stride = max(1, size // POSITIONS)
    window = max(1, size - (POSITIONS - 1) * stride)
    return (size - window) // stride + 1, window, stride


def pooled_size(shape: Sequence[int]) -> int:
    """Elements of a pooled map of this shape, (steps or height and width, channels)."""
    return math.prod(positions(size)[0] for size in shape[:-1]) * shape[-1]


def with_maps(model: keras.Model, names: Sequence[str]) -> tuple[keras.Model, tuple[int, ...]]:
    """The network that gives pooled maps beside its embedding, as one row of parts.

    A map is averaged to at most 3 positions along each axis, by equal windows: of n positions, window n - 2 floor(n / 3) at
    stride floor(n / 3).

    Args:
        model: flat, one input -> embeddings (N, D). Its layers are shared.
        names: of layers whose outputs are maps (N, ..., channels).

    Returns:
        (images -> float32 (N, sum of the sizes), the sizes of the parts). The last part is the embedding.

    Raises:
        ValueError: there is no layer of that name, or its output is no map.
    """
    outputs = {node.layer.name: node.output for node in walk(model)}
    parts = [_pooled(outputs, name, model.name) for name in names] + [model.output]
    row = keras.layers.Concatenate(name="maps")(parts) if len(parts) > 1 else model.output
    return keras.Model(model.input, row, name=model.name), tuple(part.shape[-1] for part in parts)


def _is_map(row: LayerInfo) -> bool:
    return len(row.output_shape) in (2, 3) and math.prod(row.output_shape[:-1]) > 1


def _pooled(outputs, name, model_name):
    if name not in outputs:
        raise ValueError(f"Model '{model_name}' has no layer '{name}'. Its layers: {', '.join(outputs)}")
    extent = outputs[name].shape[1:-1]
    if len(extent) not in (1, 2):
        raise ValueError(f"The output of layer '{name}' is no map (steps or height and width, channels): {outputs[name].shape}")
    _, windows, strides = zip(*map(positions, extent), strict=True)
    pool = keras.layers.AveragePooling2D if len(extent) == 2 else keras.layers.AveragePooling1D
    pooled = pool(windows, strides, name=f"{name}_pooled")(outputs[name])
    return keras.layers.Flatten(name=f"{name}_flat")(pooled)
