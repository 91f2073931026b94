"""What was learned: the new weights of the trained channels; saved, applied, reverted, bound to their base model."""

import dataclasses
import hashlib
import os
import pathlib
import zlib

import keras
import numpy as np

from keras_tinytrain.model.channels import kernel_channel_axis
from keras_tinytrain.model.graph import find_layer
from keras_tinytrain.model.private_keras import all_layers, own_weights
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.tflm_runtime.delta_format import (
    CRC,
    FLOAT32_VALUES,
    HAS_BIAS,
    HAS_PREVIOUS,
    HEADER,
    INT8_VALUES,
    MAGIC,
    RECORD,
    VERSION,
    delta_bytes,
)

_VALUE_TYPES = {  # values, biases
    FLOAT32_VALUES: (np.dtype("<f4"), np.dtype("<f4")),
    INT8_VALUES: (np.dtype("i1"), np.dtype("<i4")),
}


@dataclasses.dataclass(frozen=True)
class ChannelValues:
    """New weights of the trained channels of one layer.

    Args:
        name: the layer.
        channels: ascending.
        values: (channels, weights per channel), float32 (Keras) or int8 (device); kernel order height, width, in.
        biases: (channels,) float32 or int32; None where the layer has no bias.
    """

    name: str
    channels: tuple[int, ...]
    values: np.ndarray
    biases: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Delta:
    """Changed channels of one model. The file layout stands in tflm_runtime/src/tinytrain_delta.h.

    Args:
        base_hash: 32 bytes that name the base model, see `model_hash`.
        records: the new values.
        previous: the base model's values of the same channels, for `revert`; empty where they are not known (device).
        sequence: the higher of two is the newer.
    """

    base_hash: bytes
    records: tuple[ChannelValues, ...]
    previous: tuple[ChannelValues, ...] = ()
    sequence: int = 0

    @classmethod
    def between(cls, before: "Delta", model: keras.Model) -> "Delta":
        """The delta from the base model, of which `before` is a `snapshot`, to `model` as it is now."""
        return cls(before.base_hash, read_channels(model, before.plan), previous=before.records)

    @property
    def plan(self) -> Plan:
        """The channels it holds."""
        return Plan(tuple(LayerPlan(record.name, record.channels) for record in self.records))

    def apply(self, model: keras.Model) -> None:
        """Write the new values into `model`, which must be the base model.

        Raises:
            ValueError: `model` is another model, or the delta holds int8 values of a device.
        """
        actual = model_hash(model)
        if actual != self.base_hash:
            raise ValueError(
                f"This delta was learned on base model {self.base_hash.hex()[:12]}, and '{model.name}' is {actual.hex()[:12]}. "
                "Apply it to an unchanged copy of the model it was trained from."
            )
        _write_channels(model, self.records)

    def revert(self, model: keras.Model) -> None:
        """Put the base model's values back into `model`, which must hold this delta's.

        Raises:
            ValueError: `model` does not hold this delta's values, or the delta does not know the base model's.
        """
        if not self.previous:
            raise ValueError("This delta does not hold the base model's values. Load the base model again instead.")
        if not _equal_values(read_channels(model, self.plan), self.records):
            raise ValueError(f"Model '{model.name}' does not hold this delta's values, so there is nothing to revert.")
        _write_channels(model, self.previous)

    def merge(self, later: "Delta") -> "Delta":
        """The delta of every channel of either; of those in both, the values of `later`. `Delta.merge(a, b)` is the same.

        Records stand in the order of this delta, behind them those that only `later` has; the sequence number is the later
        one's. The device's `MergeDeltas` (tinytrain_merge.h) gives the same bytes.

        Raises:
            ValueError: the deltas were learned on different base models, or hold different kinds of values of one layer.
        """
        return self._combined(later, lambda mine, its: True)

    def diff(self, later: "Delta") -> "Delta":
        """The channels of `later` that this delta does not hold with the same values.

        What to send to who has this delta already: `a.merge(a.diff(b))` equals `a.merge(b)`. The device's `DiffDeltas` gives
        the same bytes. Raises as `merge`.
        """
        return self._combined(later, lambda mine, its: its is not None and mine != its)

    def save(self, path: str | os.PathLike) -> int:
        """Write the delta to `path` (by way of a temporary file beside it). Returns its length in bytes."""
        data = self.to_bytes()
        temporary = pathlib.Path(f"{os.fspath(path)}.partial")
        temporary.write_bytes(data)
        temporary.replace(path)
        return len(data)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Delta":
        """Read a delta. Raises ValueError where the file is cut short, altered or none."""
        try:
            return cls.from_bytes(pathlib.Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error

    def _combined(self, later, keep):
        """`later` over this delta; of each channel, keep((name, channel) as bytes here or None, the same there) decides."""
        if later.base_hash != self.base_hash:
            raise ValueError(
                f"These deltas were learned on different base models, {self.base_hash.hex()[:12]} and "
                f"{later.base_hash.hex()[:12]}: only deltas of one model can be combined."
            )
        if self.records and later.records and bool(self.previous) != bool(later.previous):
            raise ValueError("Only one of these deltas holds the base model's values, for `revert`: save both in the same way.")
        kept = [records for pair in _pairs(self, later) if (records := _combine_records(*pair, keep))]
        new, previous = zip(*kept) if kept else ((), ())
        return Delta(later.base_hash, new, previous if self.previous or later.previous else (), later.sequence)

    def to_bytes(self) -> bytes:
        previous = self.previous or (None,) * len(self.records)
        body = b"".join(_pack(new, old) for new, old in zip(self.records, previous, strict=True))
        length = delta_bytes([len(body)])
        data = HEADER.pack(MAGIC, VERSION, len(self.records), self.sequence, length, self.base_hash) + body
        return data + CRC.pack(zlib.crc32(data))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Delta":
        if len(data) < delta_bytes([]) or data[: len(MAGIC)] != MAGIC:
            raise ValueError("not a delta, or one that is cut short.")
        _, version, num_records, sequence, length, base_hash = HEADER.unpack_from(data)
        if version != VERSION:
            raise ValueError(f"a delta of format {version}; this release reads format {VERSION}.")
        if length != len(data) or zlib.crc32(data[: -CRC.size]) != CRC.unpack(data[-CRC.size :])[0]:
            raise ValueError(f"a delta that was cut short or altered ({len(data)} bytes, {length} expected, or a wrong CRC).")
        reader = _Reader(data[HEADER.size : -CRC.size])
        pairs = [_unpack(reader) for _ in range(num_records)]
        previous = tuple(old for _, old in pairs if old is not None)
        if previous and len(previous) != len(pairs):
            raise ValueError("a delta of which only some records hold the base model's values.")
        return cls(base_hash, tuple(new for new, _ in pairs), previous, sequence)


def snapshot(model: keras.Model, plan: Plan) -> Delta:
    """The delta that changes nothing: the present values of the channels in `plan`, and of layers marked `learned_state`."""
    learned = [layer for layer in all_layers(model) if getattr(layer, "learned_state", False)]
    whole = tuple(LayerPlan(layer.name, range(layer.kernel.shape[-1])) for layer in learned)
    return Delta(model_hash(model), read_channels(model, Plan(plan.layers + whole)))


def model_hash(model: keras.Model) -> bytes:
    """SHA-256 over the weights of a model: shapes and values, in order; weights marked `learned_state` are left out."""
    digest = hashlib.sha256()
    for layer in all_layers(model):
        if isinstance(layer, keras.Model) or getattr(layer, "learned_state", False):
            continue
        for weight in own_weights(layer):
            value = np.ascontiguousarray(weight)
            digest.update(repr((value.shape, value.dtype.str)).encode())
            digest.update(value.tobytes())
    return digest.digest()


def read_channels(model: keras.Model, plan: Plan) -> tuple[ChannelValues, ...]:
    """The present values of the channels that `plan` names."""
    records = []
    for layer_plan in plan.layers:
        layer = find_layer(model, layer_plan.name)
        channels = list(layer_plan.channels)
        kernel = np.moveaxis(np.asarray(layer.kernel), kernel_channel_axis(layer), 0)
        biases = np.asarray(layer.bias)[channels].copy() if layer.use_bias else None
        records.append(ChannelValues(layer.name, tuple(channels), kernel[channels].reshape(len(channels), -1).copy(), biases))
    return tuple(records)


def _write_channels(model, records):
    for record in records:
        if record.values.dtype != np.float32:
            raise ValueError(
                f"Layer '{record.name}' holds {record.values.dtype} values of a device; only the device can apply them."
            )
        layer = find_layer(model, record.name)
        channels = list(record.channels)
        whole = np.array(layer.kernel)
        kernel = np.moveaxis(whole, kernel_channel_axis(layer), 0)
        kernel[channels] = record.values.reshape(len(channels), *kernel.shape[1:])
        layer.kernel.assign(whole)
        if record.biases is not None:
            bias = np.array(layer.bias)
            bias[channels] = record.biases
            layer.bias.assign(bias)


def _equal_values(records, others):
    return all(
        np.array_equal(a.values, b.values) and (a.biases is None or np.array_equal(a.biases, b.biases))
        for a, b in zip(records, others, strict=True)
    )


def _pairs(earlier, later):
    """(its records here, its records there) of each layer; records are (new, previous), or None where there is none."""
    here, there = ({new.name: (new, old) for new, old in zip(d.records, d.previous or d.records)} for d in (earlier, later))
    for delta, by_name in ((earlier, here), (later, there)):
        if len(by_name) != len(delta.records):
            raise ValueError("A delta with two records of one layer is none that was written by this library.")
    return [(here.get(name), there.get(name)) for name in {**here, **there}]


def _combine_records(earlier, later, keep):
    """(new, previous) of the channels that are kept, ascending; None where there are none."""
    sources = [records for records in (earlier, later) if records]
    if len({_kind(new) for new, _ in sources}) > 1:
        raise ValueError(f"Layer {later[0].name!r} has values of another kind in each delta, so they cannot be combined.")
    mine, its = (_rows(records) for records in (earlier, later))
    channels = sorted(channel for channel in {**mine, **its} if keep(mine.get(channel), its.get(channel)))
    places = {
        channel: (records, n) for records in sources for n, channel in enumerate(records[0].channels) if channel in channels
    }
    taken = [places[channel] for channel in channels]
    return tuple(_take(taken, which, channels) for which in (0, 1)) if taken else None


def _kind(record):
    return record.values.dtype, record.values.shape[1], record.biases is None


def _rows(records):
    """{channel: its new values and bias as bytes}."""
    if records is None:
        return {}
    new, biases = records[0], records[0].biases
    tails = [b""] * len(new.channels) if biases is None else [bias.tobytes() for bias in biases]
    return {channel: row.tobytes() + tail for channel, row, tail in zip(new.channels, new.values, tails)}


def _take(taken, which, channels):
    """One record of the channels [(records, position), ...], of their new (0) or previous (1) values."""
    first = taken[0][0][which]
    values = np.stack([records[which].values[n] for records, n in taken])
    biases = None if first.biases is None else np.array([records[which].biases[n] for records, n in taken])
    return ChannelValues(first.name, tuple(channels), values, biases)


def _pack(record, previous):
    name = record.name.encode()
    value_type = next(code for code, (dtype, _) in _VALUE_TYPES.items() if dtype == record.values.dtype)
    flags = HAS_BIAS * (record.biases is not None) | HAS_PREVIOUS * (previous is not None)
    count, per_channel = record.values.shape
    head = bytes([len(name)]) + name + RECORD.pack(value_type, flags, per_channel, count)
    arrays = [np.asarray(record.channels, "<u2")]
    for part in filter(None, (record, previous)):
        arrays += [part.values] + ([part.biases] if part.biases is not None else [])
    return head + b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


class _Reader:
    """Takes bytes from the front; running out is an error."""

    def __init__(self, data):
        self._data, self._at = data, 0

    def take(self, count):
        piece = self._data[self._at : self._at + count]
        if len(piece) != count:
            raise ValueError("a delta whose records are cut short.")
        self._at += count
        return piece

    def array(self, dtype, *shape):
        return np.frombuffer(self.take(dtype.itemsize * int(np.prod(shape))), dtype).reshape(shape).copy()


def _unpack(reader):
    """(new values, previous values or None) of one record."""
    name = reader.take(reader.take(1)[0]).decode()
    value_type, flags, per_channel, count = RECORD.unpack(reader.take(RECORD.size))
    if value_type not in _VALUE_TYPES:
        raise ValueError(f"a delta with values of unknown type {value_type}.")
    value_dtype, bias_dtype = _VALUE_TYPES[value_type]
    channels = tuple(reader.array(np.dtype("<u2"), count).tolist())

    def values():
        kernel = reader.array(value_dtype, count, per_channel)
        return ChannelValues(name, channels, kernel, reader.array(bias_dtype, count) if flags & HAS_BIAS else None)

    new = values()
    return new, values() if flags & HAS_PREVIOUS else None
