"""SRAM that training a choice of channels takes on the device, from the layer table alone, before anything is exported."""

import dataclasses
import functools
import math

from keras_tinytrain.layers import LayerTable
from keras_tinytrain.lifetimes import kept_tensors, peak_elements, peak_of_gradients, tensor_spans
from keras_tinytrain.split import latest_cut


@dataclasses.dataclass(frozen=True)
class DeviceAccounting:
    """SRAM of the device's runtime: an estimate by which to choose; the exporter measures, and promises.

    What the runtime allocates is counted as it does (see tinytrain.h): the frozen part runs once per sample and its int8
    output is kept; trained layers have an int8 copy in RAM, trained channels a gradient, optimizer state and, unless they are
    kept in int8 alone, a float32 master. Of prototypes it counts what the exporter's default settings take: those of the
    original network, and with views the samples' own embeddings.
    TensorFlow Lite Micro's arena, which the frozen and the trainable part use in turn, is estimated from the int8 tensors alive
    at once, 8 B per channel, 240 B per operator and 1 KB: a little more than it takes on a 64-bit host.

    Args:
        optimizer_slots: float32 state per trained weight: 0 SGD, 1 momentum, 2 Adam.
        num_samples: support samples that are kept.
        num_views: augmented copies kept beside each sample.
        num_classes: prototypes that are kept.
        masters: whether weights are kept as float32, too; False is the exporter's `TrainingSettings(weights="int8")`.
    """

    optimizer_slots: int = 2
    num_samples: int = 25
    num_views: int = 0
    num_classes: int = 5
    masters: bool = True

    def memory_bytes(self, table: LayerTable, choice: dict[str, int]) -> int:
        """Total SRAM in bytes."""
        return sum(self.parts(table, choice).values())

    def parts(self, table: LayerTable, choice: dict[str, int]) -> dict[str, int]:
        """SRAM by what it is spent on, in bytes; keys as in the exporter's promise."""
        cut, gradients, arenas = _activation_memory(table, frozenset(choice))
        parameters = sum((table[name].weights_per_channel + table[name].has_bias) * n for name, n in choice.items())
        features, embedding = math.prod(table[cut].output_shape), table.weighted[-1].num_channels
        samples = self.num_samples * (1 + self.num_views) * features
        return {
            "samples": align16(samples) + align16(self.num_samples),
            "image": align16(math.prod(table[0].output_shape)) if self.num_views else 0,
            "weights": sum(align16(table[name].num_weights) + align16(4 * table[name].num_channels) for name in choice),
            "masters": align16(4 * parameters) if self.masters else 0,
            "weight_gradients": align16(4 * parameters),
            "optimizer": align16(4 * parameters * self.optimizer_slots),
            "activation_gradients": align16(max(4 * gradients, features)),
            "prototypes": self._prototype_bytes(embedding),
            "model_arena": max(arenas),
        }

    def _prototype_bytes(self, embedding):
        """Adapted and original prototypes and logits, samples per class, two embeddings and, with views, each sample's."""
        both = 2 * (align16(4 * self.num_classes * embedding) + align16(4 * self.num_classes))
        own = align16(self.num_samples * embedding) if self.num_views else 0
        return both + align16(4 * self.num_classes) + 2 * align16(4 * embedding) + own


def align16(num_bytes: int) -> int:
    """`num_bytes` rounded up to a multiple of 16, as the runtime cuts its arena."""
    return (num_bytes + 15) // 16 * 16


@functools.lru_cache(maxsize=1024)
def _activation_memory(table, names):
    """What depends on the trained layers alone, however many of their channels: cut, elements of gradients, both parts' arenas."""
    cut = latest_cut([row.inputs for row in table], min(map(table.index, names)))
    arenas = _arena(table, 0, cut + 1, set()), _arena(table, cut, len(table), kept_tensors(table, names))
    return cut, peak_of_gradients(table, names), arenas


def _arena(table, start, stop, kept):
    """Estimate for the operators of rows [start, stop): the tensors alive at once, kept ones to the end, and bookkeeping."""
    rows = [row for row in table.rows[start:stop] if not row.in_place]
    bookkeeping = 1024 + sum(240 + 8 * row.num_channels * row.has_channels for row in rows)
    spans = {home: (first, stop if home in kept else last) for home, (first, last) in tensor_spans(table, start, stop).items()}
    return align16(peak_elements(table, spans) + bookkeeping)
