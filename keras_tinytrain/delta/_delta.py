"""`Delta`: what was learned, as a value and as a file.

Keras is imported only where a model is touched, so that a board's deltas are read, merged and compared without TensorFlow.
"""

import dataclasses
import os
import pathlib
import typing
import zlib

from keras_tinytrain._files import write_file
from keras_tinytrain.delta._combine import Keep, Records, combined
from keras_tinytrain.delta._records import ChannelValues, pack, unpack_all
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.tflm_runtime.delta_format import CRC, HEADER, MAGIC, VERSION, delta_bytes

if typing.TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Delta:
    """Changed channels of one model. The file layout stands in tflm_runtime/src/tinytrain_delta.h.

    Args:
        base_hash: 32 bytes that name the base model, see `model_hash`.
        records: the new values.
        previous: the base model's values of the same channels, for `revert`; empty where they are not known (device).
        sequence: of two deltas the one with the higher number is the newer.
    """

    base_hash: bytes
    records: tuple[ChannelValues, ...]
    previous: tuple[ChannelValues, ...] = ()
    sequence: int = 0

    @classmethod
    def between(cls, before: "Delta", model: "keras.Model") -> "Delta":
        """The delta from the base model to `model` as it is now. `before` is a `snapshot` of the base model."""
        from keras_tinytrain.delta._channels import read_channels

        return cls(before.base_hash, read_channels(model, before.plan), previous=before.records)

    def __repr__(self) -> str:
        held = ", ".join(f"{record.name} {len(record.channels)}" for record in self.records)
        return f"<Delta of base model {self.base_hash.hex()[:12]}, sequence {self.sequence}; channels: {held}>"

    @property
    def plan(self) -> Plan:
        """The channels it holds."""
        return Plan(tuple(LayerPlan(record.name, record.channels) for record in self.records))

    def apply(self, model: "keras.Model") -> None:
        """Write the new values into `model`, which must be the base model: all of them or, whatever goes wrong, none.

        Raises:
            ValueError: `model` is another model; or the delta holds int8 values of a device, NaN, or what does not fit.
        """
        from keras_tinytrain.delta._channels import model_hash, require_finite, write_channels

        actual = model_hash(model)
        if actual != self.base_hash:
            raise ValueError(
                f"This delta was learned on base model {self.base_hash.hex()[:12]}, and '{model.name}' is {actual.hex()[:12]}. "
                "Apply it to an unchanged copy of the model it was trained from."
            )
        require_finite(self.records)
        write_channels(model, self.records)

    def revert(self, model: "keras.Model") -> None:
        """Put the base model's values back into `model`, which must hold this delta's: all of them or none.

        Raises:
            ValueError: `model` does not hold this delta's values, or the delta does not know the base model's.
        """
        from keras_tinytrain.delta._channels import equal_values, read_channels, write_channels

        if not self.previous:
            raise ValueError("This delta does not hold the base model's values. Load the base model again instead.")
        if not equal_values(read_channels(model, self.plan), self.records):
            raise ValueError(f"Model '{model.name}' does not hold this delta's values, so there is nothing to revert.")
        write_channels(model, self.previous)

    def merge(self, later: "Delta") -> "Delta":
        """The delta of every channel of either; of those in both, the values of `later`. `Delta.merge(a, b)` is the same.

        Records stand in the order of this delta, and after them those that only `later` has; the sequence number is the later
        one's. The device's `MergeDeltas` (tinytrain_merge.h) gives the same bytes.

        Raises:
            ValueError: the deltas were learned on different base models, or hold different kinds of values of one layer.
        """
        return self._combined(later, lambda mine, its: True)

    def diff(self, later: "Delta") -> "Delta":
        """The channels of `later` that this delta does not hold with the same values.

        Send it to a device that has this delta already: `a.merge(a.diff(b))` equals `a.merge(b)`. The device's `DiffDeltas`
        gives the same bytes. Raises as `merge`.
        """
        return self._combined(later, lambda mine, its: its is not None and mine != its)

    def save(self, path: str | os.PathLike) -> int:
        """Write the delta to `path`: the old file stays until the new one is whole. Returns its length in bytes."""
        return write_file(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Delta":
        """Read a delta. Raises ValueError where the file is cut short, altered or none."""
        try:
            return cls.from_bytes(pathlib.Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error

    def to_bytes(self) -> bytes:
        """The delta as a file holds it."""
        previous = self.previous or (None,) * len(self.records)
        body = b"".join(pack(new, old) for new, old in zip(self.records, previous, strict=True))
        length = delta_bytes([len(body)])
        data = HEADER.pack(MAGIC, VERSION, len(self.records), self.sequence, length, self.base_hash) + body
        return data + CRC.pack(zlib.crc32(data))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Delta":
        """The inverse of `to_bytes`. Raises ValueError where `data` is cut short, altered or no delta."""
        if len(data) < delta_bytes([]) or data[: len(MAGIC)] != MAGIC:
            raise ValueError("not a delta, or one that is cut short.")
        _, version, num_records, sequence, length, base_hash = HEADER.unpack_from(data)
        if version != VERSION:
            raise ValueError(f"a delta of format {version}; this release reads format {VERSION}.")
        if length != len(data) or zlib.crc32(data[: -CRC.size]) != CRC.unpack(data[-CRC.size :])[0]:
            raise ValueError(f"a delta that was cut short or altered ({len(data)} bytes, {length} expected, or a wrong CRC).")
        pairs = unpack_all(data[HEADER.size : -CRC.size], num_records)
        previous = tuple(old for _, old in pairs if old is not None)
        if previous and len(previous) != len(pairs):
            raise ValueError("a delta that holds the base model's values for some records only.")
        return cls(base_hash, tuple(new for new, _ in pairs), previous, sequence)

    def _pairs(self) -> list[Records]:
        return list(zip(self.records, self.previous or self.records, strict=True))

    def _combined(self, later: "Delta", keep: Keep) -> "Delta":
        """`later` over this delta; of each channel, keep(its bytes here or None, its bytes there) decides."""
        if later.base_hash != self.base_hash:
            raise ValueError(
                f"These deltas were learned on different base models, {self.base_hash.hex()[:12]} and "
                f"{later.base_hash.hex()[:12]}: only deltas of one model can be combined."
            )
        if self.records and later.records and bool(self.previous) != bool(later.previous):
            raise ValueError("Only one of these deltas holds the base model's values, for `revert`: save both in the same way.")
        kept = combined(self._pairs(), later._pairs(), keep)
        previous = tuple(old for _, old in kept) if self.previous or later.previous else ()
        return Delta(later.base_hash, tuple(new for new, _ in kept), previous, later.sequence)


def snapshot(model: "keras.Model", plan: Plan) -> Delta:
    """The delta that changes nothing: the present values of the channels in `plan`, and of layers marked `learned_state`."""
    from keras_tinytrain.delta._channels import model_hash, read_channels, with_learned_state

    return Delta(model_hash(model), read_channels(model, with_learned_state(model, plan)))
