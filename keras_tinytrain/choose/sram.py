"""SRAM that training a choice of channels takes on the device: an estimate from the layer table, before anything is exported."""

import dataclasses
import functools
import math

from keras_tinytrain.choose.arena import KERNELS, arena_bytes
from keras_tinytrain.choose.backward_pass import Shapes, Step, interiors, place_gradients
from keras_tinytrain.choose.lifetimes import homes, table_steps
from keras_tinytrain.choose.table_graph import table_graph
from keras_tinytrain.choose.training_memory import (
    OPTIMIZERS,
    WEIGHTS,
    ClosedForm,
    LayerInRam,
    Training,
    TrainingMemory,
    training_memory,
    variables_bytes,
)
from keras_tinytrain.device_settings import unsaid
from keras_tinytrain.model.layers import LayerInfo, LayerTable
from keras_tinytrain.model.maps import find_maps, pooled_size
from keras_tinytrain.model.split import latest_cut


@dataclasses.dataclass(frozen=True)
class DeviceAccounting:
    """SRAM of the device's runtime: an estimate to choose by. The exporter measures, and promises.

    The runtime's buffers are counted by its own formula (`choose.training_memory`) for the exporter's default settings: a head
    of prototypes, those of the original network too, each sample left out of its own prototype. The frozen part runs once per
    sample, and its int8 output is kept. Trained layers have an int8 copy in RAM, or a copy of their trained channels alone
    where the exporter splits them, which it does if that takes less. Gradients are held only while the frozen part does not
    run: they and the trainable part take turns with it in the models' arena.

    TensorFlow Lite Micro's share of that arena is what an export promises of the same operators (`choose.arena`). An export has
    a few operators more or less than the layer table says, so that its promise is a little less, and seldom more.

    Args:
        optimizer, weights: as in the exporter's `TrainingSettings`.
        num_samples: support samples that are kept.
        num_views: augmented copies that are kept of each sample.
        num_classes: prototypes that are kept.
        features: "ram" or "flash": where the frozen part's outputs are kept.
        kernels: a key of `choose.arena.KERNELS`: those that the board's TensorFlow Lite Micro has.
        closed_form: whether a closed-form head answers (`head="ridge"`).
        rejects: whether that head tells samples of no class.
        maps: names of the layers that it reads beside the embedding; (): those that `model.maps` finds.

    Raises:
        ValueError: `optimizer`, `weights`, `features` or `kernels` is none of those known.
    """

    optimizer: str = "adam"
    weights: str = "float_masters"
    num_samples: int = 25
    num_views: int = 0
    num_classes: int = 5
    features: str = "ram"
    kernels: str = "arduino"
    closed_form: bool = False
    rejects: bool = False
    maps: tuple[str, ...] = ()

    def __post_init__(self):
        choices = {"optimizer": OPTIMIZERS, "weights": WEIGHTS, "features": ("ram", "flash"), "kernels": KERNELS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} expects one of {', '.join(known)}. Received: {getattr(self, name)!r}")

    def memory_bytes(self, table: LayerTable, choice: dict[str, int]) -> int:
        """Total SRAM in bytes.

        Args:
            table: of a model in canonical form.
            choice: {layer name: number of trained channels}.
        """
        return sum(self.parts(table, choice).values())

    def parts(self, table: LayerTable, choice: dict[str, int]) -> dict[str, int]:
        """SRAM by what it is spent on, in bytes; keys as in the exporter's promise."""
        ways = (self._parts(table, choice, split) for split in (False, True))
        return min(ways, key=lambda parts: sum(parts.values()))

    def training(self, table: LayerTable, choice: dict[str, int], *, split: bool = False) -> TrainingMemory:
        """What the trainer takes; `split`: RAM holds the trained channels alone, of the layers that can be split."""
        cut, gradient_bytes = _gradient_memory(table, frozenset(choice), self._maps(table))
        alone = {row.name for row in _split_layers(table, choice)} if split else set()
        return training_memory(
            Training(
                layers=tuple(_layer_in_ram(table[name], count, name in alone) for name, count in choice.items()),
                gradient_bytes=gradient_bytes,
                num_features=math.prod(table[cut].output_shape),
                num_pixels=math.prod(table[0].output_shape),
                dimension=math.prod(_head_input(table).output_shape),
                num_samples=self.num_samples,
                num_views=self.num_views,
                num_classes=self.num_classes,
                optimizer=self.optimizer,
                weights=self.weights,
                late_prototypes=unsaid("ridge" if self.closed_form else "prototypes")[1],
                features_in_flash=self.features == "flash",
                closed_form=self._closed_form(table),
            )
        )

    def _maps(self, table: LayerTable) -> tuple[str, ...]:
        return (self.maps or find_maps(table)) if self.closed_form else ()

    def _closed_form(self, table: LayerTable) -> ClosedForm | None:
        """Its rows lie in flash if the samples do; an export keeps them in SRAM where that costs nothing."""
        if not self.closed_form:
            return None
        sizes = (pooled_size(table[name].output_shape) for name in self._maps(table))
        in_flash = self.features == "flash"
        return ClosedForm((*sizes, math.prod(_head_input(table).output_shape)), in_flash, in_flash, self.rejects)

    def _parts(self, table: LayerTable, choice: dict[str, int], split: bool) -> dict[str, int]:
        alone = frozenset(row.name for row in _split_layers(table, choice)) if split else frozenset[str]()
        arenas = _arenas(table, frozenset(choice), alone, self.kernels, self._maps(table))
        is_frozen = cut_before(table, frozenset(choice), self._maps(table)) > 0
        variables = variables_bytes(0 if is_frozen else math.prod(table[0].output_shape))
        parts = self.training(table, choice, split=split).sram(*arenas, variables)
        return {name: num_bytes for name, num_bytes in parts.items() if name != "total"}


def _split_layers(table: LayerTable, choice: dict[str, int]) -> list[LayerInfo]:
    """Layers whose trained channels can become a convolution of their own."""
    rows = [table[name] for name in choice]
    return [row for row in rows if row.kind != "depthwise" and choice[row.name] < row.num_channels]


def _layer_in_ram(row: LayerInfo, num_trained: int, alone: bool) -> LayerInRam:
    return LayerInRam(num_trained, num_trained if alone else row.num_channels, row.weights_per_channel, row.has_bias)


def _head_input(table: LayerTable) -> LayerInfo:
    """The last row, except for the head of a classifier, which is no layer that is exported."""
    return next(row for row in reversed(table.rows) if row.kind != "other")


@functools.lru_cache(maxsize=1024)
def _gradient_memory(table: LayerTable, names: frozenset[str], maps: tuple[str, ...]) -> tuple[int, int]:
    """What depends on the trained layers alone, whatever their channels: the cut, and the bytes of gradients."""
    steps, shapes = table_steps(table, names), {home: table[home].output_shape for home in homes(table)}
    return cut_before(table, names, maps), _gradient_bytes(steps, shapes)


def cut_before(table: LayerTable, names: frozenset[str], maps: tuple[str, ...]) -> int:
    """The row at whose output a model is cut in front of the trained layers `names`, and at the first of the maps or before."""
    cut = latest_cut([row.inputs for row in table], min(map(table.index, names), default=None), list(map(table.index, maps)))
    assert cut is not None  # the input is one
    return cut


@functools.lru_cache(maxsize=1024)
def _arenas(
    table: LayerTable, names: frozenset[str], split: frozenset[str], kernels: str, maps: tuple[str, ...]
) -> tuple[int, int]:
    """Estimates in bytes for the frozen part and for the trainable part, in which the layers `split` are two convolutions."""
    cut, library = cut_before(table, names, maps), KERNELS[kernels]
    frozen, trainable = table_graph(table, 0, cut + 1), table_graph(table, cut, len(table), names, split, maps)
    return arena_bytes(frozen, library), arena_bytes(trainable, library)


def _gradient_bytes(steps: list[Step], shapes: Shapes) -> int:
    """As the exporter places them, and no less than if an addition's gradient never turned into that of one of its inputs."""
    planes = interiors(steps, shapes)
    apart = [dataclasses.replace(step, elementwise=step.elementwise and len(step.inputs) == 1) for step in steps]
    return max(place_gradients(steps, shapes, planes).num_bytes, place_gradients(apart, shapes, planes).bound)
