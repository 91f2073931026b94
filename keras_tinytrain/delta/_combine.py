"""Merge and diff of deltas, channel by channel. The device's tinytrain_merge.h gives the same bytes."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from keras_tinytrain.delta._records import ChannelValues

Records: TypeAlias = tuple[
    ChannelValues, ChannelValues
]  # (new, previous) of one layer; twice the new where no previous is known
Keep: TypeAlias = Callable[
    [bytes | None, bytes | None], bool
]  # (a channel's bytes in the earlier delta, in the later) -> keep it?


def combined(earlier: Sequence[Records], later: Sequence[Records], keep: Keep) -> list[Records]:
    """`later` over `earlier`: the kept channels, in the order of `earlier`; layers that only `later` has come after.

    Raises:
        ValueError: a layer has two records in one delta, or values of different kinds in each.
    """
    here, there = _by_name(earlier), _by_name(later)
    pairs = [(here.get(name), there.get(name)) for name in {**here, **there}]
    return [records for pair in pairs if (records := _combined_layer(*pair, keep))]


def _by_name(records):
    by_name = {new.name: (new, previous) for new, previous in records}
    if len(by_name) != len(records):
        raise ValueError("This delta has two records of one layer, which this library never writes.")
    return by_name


def _combined_layer(earlier, later, keep):
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
    new = records[0]
    biases = [b""] * len(new.channels) if new.biases is None else [bias.tobytes() for bias in new.biases]
    return {channel: row.tobytes() + bias for channel, row, bias in zip(new.channels, new.values, biases)}


def _take(taken, which, channels):
    """One record of the channels [(records, position), ...], of their new (0) or previous (1) values."""
    first = taken[0][0][which]
    values = np.stack([records[which].values[n] for records, n in taken])
    biases = None if first.biases is None else np.array([records[which].biases[n] for records, n in taken])
    return ChannelValues(first.name, tuple(channels), values, biases)
