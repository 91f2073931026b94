"""Bundles whose device decides what to train: candidates in place of a plan, and the memory that their choice may take."""

import dataclasses
from typing import Any

import keras

from keras_tinytrain._old_names import last_blocks_or_layers, old_keywords
from keras_tinytrain.choose import filling, ranking
from keras_tinytrain.choose.candidates import candidates
from keras_tinytrain.choose.paper_cost import backward_macs, full_backward_macs
from keras_tinytrain.choose.training_memory import TrainingMemory, with_total
from keras_tinytrain.device_settings import DeviceSettings
from keras_tinytrain.export.backward.graph import TrainableGraph
from keras_tinytrain.export.backward.memory import training_memory
from keras_tinytrain.export.settings import TrainingSettings
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import Budget, LayerPlan, Plan
from keras_tinytrain.tflm_runtime.rounding import ALIGNMENT


@old_keywords(inspect=last_blocks_or_layers)
@dataclasses.dataclass(frozen=True)
class Candidates:
    """What a device may choose from, in place of a plan: it scores these layers on the samples of each task.

    Args:
        last_blocks, layers, kinds: as for `choose.candidates.candidates`.
        criterion: a key of `ranking.CRITERIA`.
        budget: SRAM in all, of which the board's is the most, and multiply-accumulates of one sample's backward pass. Either
            can be lowered on the device, task by task.
        device: what the device keeps, as `Plan.device` says of a plan; None: what `export_tflm` is told.
    """

    last_blocks: int = 6
    layers: tuple[str, ...] | None = None
    kinds: str = "auto"
    criterion: str = "P/(W*M)"
    budget: Budget = Budget(1 << 30)
    device: DeviceSettings | None = None

    def __post_init__(self):
        if self.criterion not in ranking.CRITERIA:
            raise ValueError(f"criterion expects one of {sorted(ranking.CRITERIA)}. Received: {self.criterion!r}")

    def plan(self, model: keras.Model) -> Plan:
        """All channels of all candidates of a canonical model."""
        rows = candidates(layer_table(model), self.last_blocks, layers=self.layers, kinds=self.kinds)
        layers = tuple(LayerPlan(row.name, tuple(range(row.num_channels))) for row in rows)
        return Plan(layers, self.budget, "candidates", device=self.device)

    def affordable(self, model: keras.Model) -> filling.Fits:
        """A predicate of choices: whether one keeps the compute limit on a canonical model."""
        table = layer_table(model)
        limit = self.budget.backward_macs(full_backward_macs(table))
        return lambda choice: backward_macs(table, choice) <= limit

    def limits(self, model: keras.Model, room: "Room") -> dict:
        """A bundle's manifest entry: criterion, multiply-accumulates of one sample's backward pass, bytes."""
        full = full_backward_macs(layer_table(model))
        return {
            "criterion": self.criterion,
            "backward_macs": min(self.budget.backward_macs(full), 2**32 - 1),
            "full_backward_macs": full,
            "arena_bytes": room.arena_bytes,
            "scratch_bytes": room.scratch_bytes,
        }


@dataclasses.dataclass(frozen=True)
class Room:
    """How SRAM is divided, in bytes.

    Args:
        model_arena: the models' arena; the scratch is its end.
        scratch_bytes: of it, for gradients.
        arena_bytes: the trainer's arena, where a choice lasts.
    """

    model_arena: int
    scratch_bytes: int
    arena_bytes: int

    def sram(self, samples: int, variables: int, closed_form: int = 0) -> dict[str, int]:
        """By part and in "total"; "choice" is the plan, weights, optimizer state and prototypes of any choice.

        Args:
            samples, variables: bytes of the parts of these names.
            closed_form: of a closed-form head, beside this room.
        """
        head = {"closed_form": closed_form} if closed_form else {}
        parts = {"samples": samples, "choice": self.arena_bytes - samples, **head, "model_arena": self.model_arena}
        return with_total({**parts, "variables": variables})

    def holds(self, memory: TrainingMemory) -> bool:
        """Whether training in so much memory finds room."""
        return memory.state_bytes <= self.arena_bytes and memory.scratch_bytes <= self.scratch_bytes


def divide(
    graph: TrainableGraph,
    settings: TrainingSettings,
    affordable: filling.Fits,
    *,
    sram_bytes: int,
    variables: int,
    frozen_arena: int,
    trainable_arena: int,
    **accounted: Any,
) -> Room:
    """Divide `sram_bytes` so that a plan which fills them finds room for its state and for its gradients.

    The example plan takes layers in order of how many of their weights fit, most first. Another plan has more or fewer
    gradients for each byte of state, so it can leave some of either. Gradients cost nothing as long as they fit into the
    bytes that the frozen part's arena takes anyway.

    Args:
        graph: with candidates.
        settings: with `num_classes` set.
        affordable: whether a choice {layer name: channels} keeps the compute limit.
        sram_bytes: in all.
        variables: bytes of it that a sketch's variables take.
        frozen_arena, trainable_arena: bytes that the two models need.
        accounted: as for `memory.training_memory`.

    Raises:
        ValueError: there is no room to score the candidates, or for one channel of any. The message says how much is enough.
    """
    arenas = {"frozen_arena": frozen_arena, "trainable_arena": trainable_arena}
    layers = {candidate.name: candidate for candidate in graph.candidates}

    def memory_of(choice):
        trained = tuple(
            dataclasses.replace(layers[name], channels=layers[name].channels[:count]) for name, count in choice.items()
        )
        return training_memory(dataclasses.replace(graph, trained=trained), settings, **accounted)

    def total(memory):
        return memory.model_arena(**arenas) + memory.state_bytes + variables

    def fits(choice):
        return total(memory_of(choice)) <= sram_bytes and affordable(choice)

    def most_weights(name):
        fitting = filling.top_up({}, [name], sizes, fits)
        return graph.layers[layers[name].layer].weights_per_channel * fitting.get(name, 0)

    scoring = memory_of({})
    sizes = {name: len(layer.channels) for name, layer in layers.items()}
    order = sorted(sizes, key=most_weights, reverse=True)
    filled = memory_of(filling.top_up({}, order, sizes, fits))
    model_arena = max(scoring.model_arena(**arenas), filled.model_arena(**arenas))
    room = Room(model_arena, model_arena - trainable_arena, (sram_bytes - variables - model_arena) // ALIGNMENT * ALIGNMENT)
    if not filled.state["weights"] or not room.holds(scoring):
        least = [total(memory_of({name: 1})) for name in sizes if affordable({name: 1})]
        if not least:
            raise ValueError("The compute limit is too low for one channel of any candidate. Nothing was written.")
        raise ValueError(
            f"The device has no room to choose within {sram_bytes:,} B of SRAM, of which the models' arena takes {model_arena:,} B. "
            f"To score these candidates and train one channel takes {max(total(scoring), min(least)):,} B. Inspect fewer blocks, "
            'keep fewer samples or keep their features in flash, or train with optimizer="sgd" or weights="int8". Nothing was '
            "written."
        )
    return room
