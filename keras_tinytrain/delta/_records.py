"""Records of a delta: the values of one layer's channels, as bytes and back. The layout stands in tinytrain_delta.h."""

import dataclasses
import itertools
import math

import numpy as np

from keras_tinytrain.tflm_runtime.delta_format import (
    FLOAT32_VALUES,
    FLOAT64_VALUES,
    HAS_BIAS,
    HAS_PREVIOUS,
    INT8_VALUES,
    MAX_NAME_BYTES,
    RECORD,
)

MAX_CHANNEL = 2**16 - 1  # two bytes each
VALUE_TYPES = {  # {code: types of values, biases}
    FLOAT32_VALUES: (np.dtype("<f4"), np.dtype("<f4")),
    INT8_VALUES: (np.dtype("i1"), np.dtype("<i4")),
    FLOAT64_VALUES: (np.dtype("<f8"), np.dtype("<f8")),
}


@dataclasses.dataclass(frozen=True)
class ChannelValues:
    """Weights of some channels of one layer.

    Args:
        name: the layer.
        channels: ascending.
        values: (channels, weights per channel), float32 or float64 (Keras) or int8 (device); kernel order height, width, in.
        biases: (channels,) of the same type, or int32 (device); None where the layer has no bias.
    """

    name: str
    channels: tuple[int, ...]
    values: np.ndarray
    biases: np.ndarray | None


def pack(record: ChannelValues, previous: ChannelValues | None) -> bytes:
    """A record's bytes; `previous` holds the base model's values of the same channels."""
    name = record.name.encode()
    if len(name) > MAX_NAME_BYTES:
        raise ValueError(f"Layer '{record.name}' has a name of {len(name)} bytes; a delta holds at most {MAX_NAME_BYTES}.")
    value_type = next(code for code, (dtype, _) in VALUE_TYPES.items() if dtype == record.values.dtype)
    flags = HAS_BIAS * (record.biases is not None) | HAS_PREVIOUS * (previous is not None)
    count, per_channel = record.values.shape
    if count and max(record.channels) > MAX_CHANNEL:
        raise ValueError(
            f"Layer '{record.name}' has a channel {max(record.channels)}; a delta holds channels up to {MAX_CHANNEL}."
        )
    head = bytes([len(name)]) + name + RECORD.pack(value_type, flags, per_channel, count)
    arrays = [np.asarray(record.channels, "<u2")]
    for part in filter(None, (record, previous)):
        arrays += [part.values] + ([part.biases] if part.biases is not None else [])
    return head + b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def unpack_all(data: bytes, num_records: int) -> list[tuple[ChannelValues, ChannelValues | None]]:
    """(new values, previous values or None) of each record. Raises ValueError where they are cut short or of unknown type."""
    reader = _Reader(data)
    records = [_unpack(reader) for _ in range(num_records)]
    if reader.num_left:
        raise ValueError(f"a delta with {reader.num_left} bytes after its last record.")
    return records


class _Reader:
    """Takes bytes from the front; running out is an error."""

    def __init__(self, data: bytes):
        self._data, self._at = data, 0

    @property
    def num_left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) != count:
            raise ValueError("a delta whose records are cut short.")
        self._at += count
        return piece

    def array(self, dtype: np.dtype, *shape: int) -> np.ndarray:
        return np.frombuffer(self.take(dtype.itemsize * math.prod(shape)), dtype).reshape(shape).copy()


def _unpack(reader):
    name = reader.take(reader.take(1)[0]).decode()
    value_type, flags, per_channel, count = RECORD.unpack(reader.take(RECORD.size))
    if value_type not in VALUE_TYPES or flags > (HAS_BIAS | HAS_PREVIOUS):
        raise ValueError(f"a delta with values of unknown type {value_type} or flags {flags}.")
    value_dtype, bias_dtype = VALUE_TYPES[value_type]
    channels = tuple(reader.array(np.dtype("<u2"), count).tolist())
    if any(a >= b for a, b in itertools.pairwise(channels)):
        raise ValueError(f"a delta whose channels of layer {name!r} do not ascend.")

    def values():
        kernel = reader.array(value_dtype, count, per_channel)
        return ChannelValues(name, channels, kernel, reader.array(bias_dtype, count) if flags & HAS_BIAS else None)

    new = values()
    return new, values() if flags & HAS_PREVIOUS else None
