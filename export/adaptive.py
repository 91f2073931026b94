"""Bundles that decide on the device what to train: candidates in place of a plan, and the memory that their choice may take."""

import dataclasses

import keras

from keras_tinytrain._old_names import last_blocks_or_layers, old_keywords
from keras_tinytrain.choose import filling, ranking, selection
from keras_tinytrain.choose.paper_cost import backward_macs, full_backward_macs
from keras_tinytrain.choose.training_memory import TrainingMemory, with_total
from keras_tinytrain.export.backward.graph import TrainableGraph
from keras_tinytrain.export.backward.memory import training_memory
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import Budget, LayerPlan, Plan


@old_keywords(inspect=last_blocks_or_layers)
@dataclasses.dataclass(frozen=True)
class Candidates:
    """What a device may choose from, in place of a plan: it scores these layers on the samples of each task.

    Args:
        last_blocks, layers, kinds: as for `selection.candidates`.
        criterion: a key of `ranking.CRITERIA`.
        budget: SRAM in all, of which the board's is the most, and multiply-accumulates of one sample's backward pass. Either
            can be lowered on the device, task by task.
    """

    last_blocks: int = 6
    layers: tuple[str, ...] | None = None
    kinds: str = "pointwise"
    criterion: str = "P/(W*M)"
    budget: Budget = Budget(1 << 30)

    def __post_init__(self):
        if self.criterion not in ranking.CRITERIA:
            raise ValueError(f"criterion expects one of {sorted(ranking.CRITERIA)}. Received: {self.criterion!r}")

    def plan(self, model: keras.Model) -> Plan:
        """All channels of all candidates of a canonical model."""
        rows = selection.candidates(layer_table(model), self.last_blocks, layers=self.layers, kinds=self.kinds)
        layers = tuple(LayerPlan(row.name, tuple(range(row.num_channels))) for row in rows)
        return Plan(layers, self.budget, "candidates")

    def affordable(self, model: keras.Model):
        """choice -> whether it keeps the compute limit on a canonical model."""
        table = layer_table(model)
        limit = self.budget.backward_macs(full_backward_macs(table))
        return lambda choice: backward_macs(table, choice) <= limit

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
    graph: TrainableGraph, settings, affordable, *, sram_bytes: int, frozen_arena: int, trainable_arena: int, **accounted
) -> Room:
    """Divide `sram_bytes` so that a plan which fills them finds room for what lasts and for its gradients.

    The plan by which is divided takes the layer of which most weights fit, then the next. Another one has more or fewer
    gradients for each byte that lasts, so that it may leave some of either. Below the frozen part's arena gradients cost nothing.

    Args:
        graph: with candidates.
        settings: a `TrainingSettings`.
        affordable: whether a choice {layer name: channels} keeps the compute limit.
        sram_bytes: in all.
        frozen_arena, trainable_arena: what the models need.
        accounted: as for `memory.training_memory`.

    Raises:
        ValueError: there is no room to score the candidates, or for one channel of any; says how much there would have to be.
    """
    arenas = {"frozen_arena": frozen_arena, "trainable_arena": trainable_arena}
    layers = {candidate.name: candidate for candidate in graph.candidates}

    def memory_of(choice):
        trained = tuple(
            dataclasses.replace(layers[name], channels=layers[name].channels[:count]) for name, count in choice.items()
        )
        return training_memory(dataclasses.replace(graph, trained=trained), settings, **accounted)

    def total(memory):
        return memory.model_arena(**arenas) + memory.state_bytes

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
    room = Room(model_arena, model_arena - trainable_arena, (sram_bytes - model_arena) // 16 * 16)
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
