"""The bytes of a delta, as tinytrain_delta.h describes them: its parts and their sizes."""

import struct

from keras_tinytrain.tflm_runtime.headers import byte_string, constant

_FORMAT = "tinytrain/delta/format.h"
MAGIC = byte_string("tinytrain_delta.h", "kDeltaMagic")
VERSION = constant("tinytrain_delta.h", "kDeltaVersion")
MAX_NAME_BYTES = constant("tinytrain_delta.h", "kMaxNameBytes")
HEADER = struct.Struct("<4sHHII32s")  # magic, version, records, sequence, length with CRC, base hash
RECORD = struct.Struct("<BBIH")  # after the name: value type, flags, values per channel, channels
CRC = struct.Struct("<I")
CHANNEL = struct.Struct("<H")  # index of a channel
FLOAT32_VALUES, INT8_VALUES = constant(_FORMAT, "kFloat32Values"), constant(_FORMAT, "kInt8Values")
FLOAT64_VALUES = constant(_FORMAT, "kFloat64Values")
HAS_BIAS, HAS_PREVIOUS = constant(_FORMAT, "kHasBias"), constant(_FORMAT, "kHasPrevious")


def record_bytes(name: str, num_channels: int, channel_bytes: int) -> int:
    """Size of a record of so many channels, with so many bytes of values and bias each."""
    return 1 + len(name.encode()) + RECORD.size + num_channels * (CHANNEL.size + channel_bytes)


def delta_bytes(records: list[int]) -> int:
    """Size of a delta whose records have these sizes."""
    return HEADER.size + sum(records) + CRC.size
