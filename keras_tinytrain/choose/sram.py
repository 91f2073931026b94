"""SRAM that training a choice of channels takes on the device, from the layer table alone, before anything is exported."""

import dataclasses
import functools
import math

from keras_tinytrain.choose.arena import placed_bytes
from keras_tinytrain.choose.lifetimes import kept_tensors, peak_of_gradients, tensor_spans
from keras_tinytrain.model.layers import LayerTable
from keras_tinytrain.model.split import latest_cut

OPTIMIZERS = {"sgd": (0, 0), "momentum": (1, 0), "adam": (2, 0), "adam_per_channel": (1, 1)}  # float32s a weight, a run of them
WEIGHTS = ("float_masters", "int8")
_FLASH_BLOCK = 256  # bytes that one write of flash takes, see tinytrain_flash.h
_OPERATOR_BYTES = 264  # of TensorFlow Lite Micro's arena, the mean over the networks of `backbones` and a little more


@dataclasses.dataclass(frozen=True)
class DeviceAccounting:
    """SRAM of the device's runtime: an estimate by which to choose; the exporter measures, and promises.

    What the runtime allocates is counted as it does (see tinytrain.h): the frozen part runs once per sample and its int8
    output is kept; trained layers have an int8 copy in RAM, of their trained channels alone where the exporter splits them,
    which it does if that takes less; trained channels have optimizer state and, unless they are kept in int8 alone, a float32
    master. Of prototypes it counts what the exporter's default settings take: those of the original network
    too and, with views, the samples' own embeddings. Gradients are held only while the frozen part does not run: they and the
    trainable part take turns with it in the model's arena. TensorFlow Lite Micro's share of that is its int8 tensors,
    placed as it places them, 8 B per channel, 264 B per operator and 1 KB: a little more than it takes on a 64-bit host.

    Args:
        optimizer, weights: as in the exporter's `TrainingSettings`.
        num_samples: support samples that are kept.
        num_views: augmented copies kept beside each sample.
        num_classes: prototypes that are kept.
        features: "ram" or "flash": where the frozen part's outputs are kept.

    Raises:
        ValueError: `optimizer`, `weights` or `features` is none of those known.
    """

    optimizer: str = "adam"
    weights: str = "float_masters"
    num_samples: int = 25
    num_views: int = 0
    num_classes: int = 5
    features: str = "ram"

    def __post_init__(self):
        for name, known in (("optimizer", OPTIMIZERS), ("weights", WEIGHTS), ("features", ("ram", "flash"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} expects one of {', '.join(known)}. Received: {getattr(self, name)!r}")

    def memory_bytes(self, table: LayerTable, choice: dict[str, int]) -> int:
        """Total SRAM in bytes."""
        return sum(self.parts(table, choice).values())

    def parts(self, table: LayerTable, choice: dict[str, int]) -> dict[str, int]:
        """SRAM by what it is spent on, in bytes; keys as in the exporter's promise."""
        ways = (self._parts(table, choice, split) for split in (False, True))
        return min(ways, key=lambda parts: sum(parts.values()))

    def _parts(self, table, choice, split):
        """With trained layers as a whole in RAM, or their trained channels only, but for depthwise layers."""
        cut_in_two = {
            name: table[name]
            for name, n in choice.items()
            if split and table[name].kind != "depthwise" and n < table[name].num_channels
        }
        num_copied = {name: n if name in cut_in_two else table[name].num_channels for name, n in choice.items()}
        cut, gradients, (frozen_arena, trainable_arena) = _activation_memory(table, frozenset(choice))
        parameters = sum((table[name].weights_per_channel + table[name].has_bias) * n for name, n in choice.items())
        slots, run_slots = OPTIMIZERS[self.optimizer]
        runs = sum((1 + table[name].has_bias) * n for name, n in choice.items())
        features, embedding = math.prod(table[cut].output_shape), table.weighted[-1].num_channels
        stored = 0 if self.features == "flash" else self.num_samples * (1 + self.num_views) * features
        image = align16(math.prod(table[0].output_shape)) if self.num_views else 0
        in_transit = align16(features) if self.features == "ram" else -(-features // _FLASH_BLOCK) * _FLASH_BLOCK
        training = max(align16(4 * parameters) + align16(4 * gradients), in_transit) + self._head_bytes(embedding)
        # Of a split layer, convolution, concatenation and reordering of both parts' outputs: three operators, one more tensor.
        largest = max((math.prod(row.output_shape) for row in cut_in_two.values()), default=0)
        trainable_arena += 3 * _OPERATOR_BYTES * len(cut_in_two) + align16(largest)
        return {
            "samples": align16(stored) + align16(self.num_samples),
            "weights": sum(align16(n * table[name].weights_per_channel) + align16(4 * n) for name, n in num_copied.items()),
            "masters": align16(4 * parameters) if self.weights == "float_masters" else 0,
            "optimizer": align16(4 * (parameters * slots + runs * run_slots)),
            "prototypes": 2 * align16(4 * self.num_classes * embedding),
            "model_arena": max(frozen_arena + image, trainable_arena + max(in_transit + image, training)),
        }

    def _head_bytes(self, embedding):
        """Logits of both networks, samples per class; two embeddings and, with views, each sample's."""
        own = align16(self.num_samples * embedding) if self.num_views else 0
        return 3 * align16(4 * self.num_classes) + 2 * align16(4 * embedding) + own


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
    """Estimate for the operators of rows [start, stop): their tensors, kept ones to the end, and bookkeeping."""
    rows = [row for row in table.rows[start:stop] if not row.in_place]
    bookkeeping = 1024 + sum(_OPERATOR_BYTES + 8 * row.num_channels * row.has_channels for row in rows)
    spans = sorted(tensor_spans(table, start, stop).items())
    sizes = {home: align16(math.prod(table[home].output_shape)) for home, _ in spans}
    tensors = [(sizes[home], first, stop if home in kept else last) for home, (first, last) in spans]
    return align16(placed_bytes(tensors) + bookkeeping)
