"""SRAM that training a choice of channels takes on the device, from the layer table alone, before anything is exported."""

import dataclasses
import math

from keras_tinytrain.layers import LayerTable
from keras_tinytrain.split import latest_cut


@dataclasses.dataclass(frozen=True)
class DeviceAccounting:
    """SRAM of the device's runtime: an estimate by which to choose; the exporter measures, and promises.

    What the runtime allocates is counted as it does (see tinytrain.h): the frozen part runs once per sample and its int8
    output is kept; trained layers have an int8 copy in RAM, trained channels a float32 master, a gradient and optimizer state.
    TensorFlow Lite Micro's two arenas are estimated from the int8 tensors alive at once, 8 B per channel and 200 B per operator.

    Args:
        optimizer_slots: float32 state per trained weight: 0 SGD, 1 momentum, 2 Adam.
        num_samples: support samples that are kept.
        num_views: augmented copies kept beside each sample.
        num_classes: prototypes that are kept.
    """

    optimizer_slots: int = 2
    num_samples: int = 25
    num_views: int = 0
    num_classes: int = 5

    def memory_bytes(self, table: LayerTable, choice: dict[str, int]) -> int:
        """Total SRAM in bytes."""
        return sum(self.parts(table, choice).values())

    def parts(self, table: LayerTable, choice: dict[str, int]) -> dict[str, int]:
        """SRAM by what it is spent on, in bytes; keys as in the exporter's promise."""
        cut = latest_cut([row.inputs for row in table], min(map(table.index, choice)))
        parameters = sum((table[name].weights_per_channel + table[name].has_bias) * n for name, n in choice.items())
        features, embedding = math.prod(table[cut].output_shape), table.weighted[-1].num_channels
        samples = self.num_samples * (1 + self.num_views) * features
        return {
            "samples": align16(samples) + align16(self.num_samples),
            "image": align16(math.prod(table[0].output_shape)) if self.num_views else 0,
            "weights": sum(align16(table[name].num_weights) + align16(4 * table[name].num_channels) for name in choice),
            "masters": align16(4 * parameters),
            "weight_gradients": align16(4 * parameters),
            "optimizer": align16(4 * parameters * self.optimizer_slots),
            "activation_gradients": align16(max(4 * _peak_of_gradients(table, choice), features)),
            "prototypes": align16(4 * (self.num_classes + 1) * embedding) + 2 * align16(4 * self.num_classes),
            "frozen_arena": _arena(table, 0, cut + 1, set()),
            "trainable_arena": _arena(table, cut, len(table), _kept(table, choice)),
        }


def align16(num_bytes: int) -> int:
    """`num_bytes` rounded up to a multiple of 16, as the runtime cuts its arena."""
    return (num_bytes + 15) // 16 * 16


def _arena(table, start, stop, kept):
    """Estimate for the operators of rows [start, stop): the tensors alive at once, kept ones to the end, and bookkeeping."""
    rows = [row for row in table.rows[start:stop] if not row.in_place]
    bookkeeping = sum(200 + 8 * row.num_channels * row.has_channels for row in rows)
    spans = {home: (first, stop if home in kept else last) for home, (first, last) in _spans(table, start, stop).items()}
    return align16(_peak(table, spans) + bookkeeping)


def _peak_of_gradients(table, choice):
    """Elements of the float gradients alive at once. A gradient lives from its tensor's last reader back to its producer."""
    behind = table.downstream(choice)
    flows = {_home(table, index) for index, row in enumerate(table) if behind[index] or row.name in choice}
    return _peak(table, {home: span for home, span in _spans(table, 0, len(table)).items() if home in flows})


def _kept(table, choice):
    """Tensors that the backward pass reads: inputs of trained layers, outputs of activations on its way."""
    behind = table.downstream(choice)
    inputs = {_home(table, table[name].inputs[0]) for name in choice}
    return inputs | {_home(table, i) for i, row in enumerate(table) if row.kind == "activation" and behind[i]}


def _spans(table, start, stop):
    """{row: (first, last)}: the tensor that row produces is alive from `first` to `last`, for rows in [start, stop)."""
    spans = {}
    for index in range(start, stop):
        for home in (_home(table, index), *(_home(table, source) for source in table[index].inputs)):
            first, last = spans.get(home, (index, index))
            spans[home] = (first, index)
    return spans


def _peak(table, spans):
    """Elements alive at once, at most."""
    moments = {first for first, _ in spans.values()}
    size = {home: math.prod(table[home].output_shape) for home in spans}
    return max(sum(size[home] for home, (first, last) in spans.items() if first <= now <= last) for now in moments)


def _home(table, index):
    """The row in whose memory the output of row `index` lives: an activation works in its producer's."""
    while table[index].in_place and table[index].inputs:
        index = table[index].inputs[0]
    return index
