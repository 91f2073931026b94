"""Bundles that decide on the device what to train: candidates in place of a plan, and the memory that their choice may take."""

import dataclasses

import keras

from keras_tinytrain import selection
from keras_tinytrain.cost import full_backward_macs
from keras_tinytrain.device_cost import OPTIMIZERS
from keras_tinytrain.layers import layer_table
from keras_tinytrain.plan import Budget, LayerPlan, Plan

from .graph import TrainableGraph
from .memory import TrainingMemory, align, training_memory, with_total


@dataclasses.dataclass(frozen=True)
class Candidates:
    """What a device may choose from, in place of a plan: it scores these layers on the samples of each task.

    Args:
        inspect, kinds: as for `selection.candidates`: the last blocks or names of layers; "pointwise" or "all".
        criterion: a key of `selection.CRITERIA`.
        budget: SRAM in all, of which the board's is the most, and multiply-accumulates of one sample's backward pass. Either can be
            lowered on the device, task by task.
    """

    inspect: int | tuple[str, ...] = 6
    kinds: str = "pointwise"
    criterion: str = "P/(W*M)"
    budget: Budget = Budget(1 << 30)

    def __post_init__(self):
        if self.criterion not in selection.CRITERIA:
            raise ValueError(f"criterion expects one of {sorted(selection.CRITERIA)}. Received: {self.criterion!r}")

    def plan(self, model: keras.Model) -> Plan:
        """All channels of all candidates of a canonical model."""
        rows = selection.candidates(layer_table(model), self.inspect, kinds=self.kinds)
        layers = tuple(LayerPlan(row.name, tuple(range(row.num_channels))) for row in rows)
        return Plan(layers, self.budget, "candidates")

    def limits(self, model: keras.Model, room: "Room") -> dict:
        """What a bundle's manifest says of them: criterion, multiply-accumulates of one sample's backward pass, bytes."""
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
    """How SRAM is divided between the models' arena, at whose end the scratch is, and the trainer's, where a choice lasts."""

    model_arena: int
    scratch_bytes: int
    arena_bytes: int

    def sram(self, samples: int) -> dict[str, int]:
        """By part and in "total"; "choice": plan, weights, optimizer state and prototypes of whatever is chosen."""
        return with_total({"samples": samples, "choice": self.arena_bytes - samples, "model_arena": self.model_arena})

    def holds(self, memory: TrainingMemory) -> bool:
        return memory.state_bytes <= self.arena_bytes and memory.scratch_bytes <= self.scratch_bytes


def divide(
    graph: TrainableGraph, settings, *, sram_bytes: int, frozen_arena: int, trainable_arena: int, **accounted
) -> Room:
    """Divide `sram_bytes` so that as many weights as can be are trained.

    While the trainable part runs, the frozen part's arena has room for gradients that costs nothing. More gradients take from what
    lasts: of each trained weight the scratch holds 4 B, the trainer's arena its int8 (at least), master and optimizer state.

    Args:
        graph: with candidates.
        settings: a `TrainingSettings`.
        sram_bytes: in all.
        frozen_arena, trainable_arena: what the models need.
        accounted: as for `memory.training_memory`.

    Raises:
        ValueError: there is no room to score the candidates, or for one channel of any; says how much there would have to be.
    """
    scoring = training_memory(graph, settings, **accounted)
    gradients = scoring.training["activation_gradients"] + scoring.training["head"]
    lasting = 1 + 4 * (settings.weights == "float_masters") + 4 * OPTIMIZERS[settings.optimizer][0]
    free = sram_bytes - trainable_arena - gradients - scoring.state["samples"] - scoring.state["prototypes"]
    balanced = align(gradients + 4 * max(0, free) // (4 + lasting))
    scratch = max(scoring.scratch_bytes, frozen_arena - trainable_arena, balanced)
    scratch = -(-scratch // 16) * 16
    model_arena = max(frozen_arena + scoring.frozen["image"], trainable_arena + scratch)
    room = Room(model_arena, model_arena - trainable_arena, (sram_bytes - model_arena) // 16 * 16)
    least = [training_memory(_with_one_channel(graph, index), settings, **accounted) for index in range(len(graph.candidates))]
    if not room.holds(scoring) or not any(map(room.holds, least)):
        needed = min(memory.model_arena(frozen_arena, trainable_arena) + memory.state_bytes for memory in least)
        needed = max(needed, scoring.model_arena(frozen_arena, trainable_arena) + scoring.state_bytes)
        raise ValueError(
            f"The device has no room to choose: {sram_bytes:,} B of SRAM, of which the models' arena takes {model_arena:,} B. To score "
            f"these candidates and train one channel takes {needed:,} B. Inspect fewer blocks, keep fewer samples or keep their "
            'features in flash, or train with optimizer="sgd" or weights="int8". Nothing was written.'
        )
    return room


def _with_one_channel(graph, index):
    one = dataclasses.replace(graph.candidates[index], channels=(0,))
    return dataclasses.replace(graph, trained=(one,))
