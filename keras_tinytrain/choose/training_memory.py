"""The SRAM of training, part by part: one formula, filled by an estimate before an export and exactly by an exported graph.

The C++ function `MeasureParts` (tinytrain/memory/memory.h) computes the same, and tests hold the two to the byte.
"""

import dataclasses

from keras_tinytrain.tflm_runtime.headers import constant, names
from keras_tinytrain.tflm_runtime.rounding import align, whole_blocks, whole_pages

# float32 numbers of state: of each trained weight, and of each run of weights (a channel's kernel, or its bias). To add an
# optimizer: a line here, and in C++ the steps that tinytrain/trainer/optimizer.h names.
OPTIMIZERS = {
    "sgd": (0, 0),
    "momentum": (1, 0),
    "adam": (2, 0),
    "adam_per_channel": (1, 1),
    "rmsprop": (1, 0),
}
WEIGHTS = tuple(names("tinytrain_tables.h", "WeightStorage"))
# Of the trainer, two interpreters, their resolver with a place for each of 30 operators, and a sketch, on a Cortex-M: 1,040 to 1,216
# B where a bundle has 6 operators, as linked into a sketch and into the firmware.
_VARIABLES_BYTES = 2_048
_PLAN_TABLES_BYTES = constant("tinytrain/memory/memory.h", "kPlanTablesBytes")
_PLAN_LAYER_BYTES = constant("tinytrain/memory/memory.h", "kPlanLayerBytes")


@dataclasses.dataclass(frozen=True)
class LayerInRam:
    """What RAM holds of one trained layer.

    Args:
        num_trained: output channels that are trained.
        num_held: output channels whose int8 weights are in RAM: all of the layer's, or the trained ones alone.
        weights_per_channel: elements of one channel's kernel.
        has_bias: whether a bias per output channel is trained too.
    """

    num_trained: int
    num_held: int
    weights_per_channel: int
    has_bias: bool

    @property
    def num_bytes(self) -> int:
        """Of int8 kernel and int32 bias."""
        return align(self.num_held * self.weights_per_channel) + (align(4 * self.num_held) if self.has_bias else 0)

    @property
    def num_weights(self) -> int:
        """Trained values."""
        return self.num_trained * (self.weights_per_channel + self.has_bias)

    @property
    def num_runs(self) -> int:
        """Runs of trained values: a channel's kernel, or its bias."""
        return self.num_trained * (1 + self.has_bias)


@dataclasses.dataclass(frozen=True)
class DevicePlan:
    """A plan that the device chooses: candidates, their channels in all, and how many channels are chosen so far."""

    num_candidates: int
    num_candidate_channels: int
    num_chosen_channels: int

    @property
    def num_bytes(self) -> int:
        """Of tables, layers, and chosen channels or, while there are none, float32 scores of all."""
        listed = 2 * self.num_chosen_channels or 4 * self.num_candidate_channels
        return _PLAN_TABLES_BYTES + align(_PLAN_LAYER_BYTES * self.num_candidates) + align(listed)


@dataclasses.dataclass(frozen=True)
class ClosedForm:
    """A closed-form head.

    Args:
        parts: elements of each part of a row: the pooled maps and the embedding.
        in_flash: whether the solution is kept in flash, as the samples are.
        rows_in_flash: whether the rows are there too while it is solved, and not in the scratch.
        rejects: whether it tells samples of no class.
    """

    parts: tuple[int, ...]
    in_flash: bool = False
    rows_in_flash: bool = False
    rejects: bool = False

    @property
    def num_elements(self) -> int:
        """Of a row, int8."""
        return sum(self.parts)

    def state_bytes(self, num_classes: int, *, averages: bool) -> int:
        """In RAM: an int32 scale for each class and for the centre of each solution and, unless they are in flash, int8 values."""
        one = align(4 * (num_classes + 1)) + (0 if self.in_flash else self._value_bytes(num_classes))
        return self._num_solutions(averages) * one

    def solving_bytes(self, num_samples: int, num_classes: int) -> int:
        """Of the equations; of the rows, or of one row on its way to flash; of values on their way there."""
        n, targets = num_samples, num_classes + self.rejects
        triangle, parts = n * (n + 1) // 2, len(self.parts)
        rows = align((1 if self.rows_in_flash else n) * self.num_elements)
        on_its_way = self._value_bytes(num_classes) if self.in_flash else 0
        equations = 8 * (triangle + n * (targets + parts + 1)) + 4 * parts * triangle + 4 * n * (targets + 1) + 2 * n
        return align(equations) + rows + on_its_way

    def flash_bytes(self, num_samples: int, num_classes: int, page_bytes: int, *, averages: bool) -> int:
        """Whole pages of what is kept there."""
        row = whole_blocks(self.num_elements)
        values = whole_pages((num_classes + 1) * row, page_bytes) * self._num_solutions(averages) if self.in_flash else 0
        return values + (whole_pages(num_samples * row, page_bytes) if self.rows_in_flash else 0)

    def _num_solutions(self, averages: bool) -> int:
        """Of the adapted weights, of the original ones, and what tells samples of no class."""
        return 1 + averages + self.rejects

    def _value_bytes(self, num_classes: int) -> int:
        return align((num_classes + 1) * self.num_elements)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained and how, in counts: all that the SRAM of training depends on.

    Args:
        layers: those that are trained.
        gradient_bytes: of the region where gradients of activations lie.
        num_features: int8 values of the frozen part's output.
        num_pixels: int8 values of the model's input.
        dimension: values of the head's input.
        num_samples, num_views, num_classes: samples that are kept, augmented copies of each, and classes.
        optimizer: a key of `OPTIMIZERS`.
        weights: one of `WEIGHTS`.
        features_in_flash: whether the frozen part's outputs are kept in flash.
        has_prototypes: the head compares with prototypes; else it is a softmax.
        leave_one_out: a sample is left out of its own prototype (head of prototypes).
        late_prototypes: prototypes are of embeddings of the iteration before (head of prototypes).
        immediate: one optimizer step after each sample, else one an iteration.
        averages: predictions average the adapted and the original network (head of prototypes).
        plan: where the device chooses; None where the plan is decided.
        closed_form: the head that answers in place of the prototypes; None where they answer.
    """

    layers: tuple[LayerInRam, ...]
    gradient_bytes: int
    num_features: int
    num_pixels: int
    dimension: int
    num_samples: int
    num_views: int
    num_classes: int
    optimizer: str = "adam"
    weights: str = "float_masters"
    features_in_flash: bool = False
    has_prototypes: bool = True
    leave_one_out: bool = True
    late_prototypes: bool = False
    immediate: bool = False
    averages: bool = True
    plan: DevicePlan | None = None
    closed_form: ClosedForm | None = None


@dataclasses.dataclass(frozen=True)
class TrainingMemory:
    """The C++ struct `MemoryParts`: bytes that the trainer takes, by part.

    Args:
        state: parts that last. They have an arena of their own.
        frozen: parts needed beside the frozen part while that runs: its output, and one view of an image, its input.
        training: parts needed beside the trainable part while it trains.
        closed_form: of a closed-form head; it lasts, in memory of its own.
        solving: needed beside the trainable part while that head is solved or answers.

    The frozen part never runs while the trainable part trains. So `frozen` and `training` take the same bytes, the scratch,
    at the end of the arena in which both models take turns.
    """

    state: dict[str, int]
    frozen: dict[str, int]
    training: dict[str, int]
    closed_form: int = 0
    solving: int = 0

    @classmethod
    def of(cls, parts: dict[str, int]) -> "TrainingMemory":
        """From the fields of `MemoryParts`, as the runtime reports them."""
        names = (
            ("samples", "plan", "weights", "masters", "optimizer", "prototypes"),
            ("features", "image"),
            ("weight_gradients", "activation_gradients", "head"),
        )
        state, frozen, training = ({name: parts[name] for name in group} for group in names)
        return cls(state, frozen, training)

    @property
    def state_bytes(self) -> int:
        return sum(self.state.values())

    @property
    def scratch_bytes(self) -> int:
        gradients = self.training["weight_gradients"] + self.training["activation_gradients"]
        training = max(gradients, self.frozen["features"]) + self.training["head"]  # features outlive a run that predicts
        return max(sum(self.frozen.values()), training, self.solving)

    @property
    def scratch(self) -> dict[str, int]:
        """By part. They lie over one another, so there is no sum."""
        return {**self.frozen, **self.training, **({"solving": self.solving} if self.solving else {})}

    def model_arena(self, frozen_arena: int, trainable_arena: int) -> int:
        """Bytes of the one arena (SharedArenaModel): for the frozen part and its view, or the trainable part and scratch."""
        return max(frozen_arena + self.frozen["image"], trainable_arena + self.scratch_bytes)

    def sram(self, frozen_arena: int, trainable_arena: int, variables: int) -> dict[str, int]:
        """All of it with the models' arena, a sketch's variables and "total"; "plan" and "closed_form" only where there are such."""
        lasting = {**self.state, "closed_form": self.closed_form}
        state = {name: num_bytes for name, num_bytes in lasting.items() if num_bytes or name not in ("plan", "closed_form")}
        model_arena = self.model_arena(frozen_arena, trainable_arena)
        return with_total({**state, "model_arena": model_arena, "variables": variables})


def training_memory(training: Training) -> TrainingMemory:
    """What `Trainer::RequiredBytes` reports. Every part is a multiple of 16 B; the formulas stand in memory.h."""
    t, slots, run_slots = training, *OPTIMIZERS[training.optimizer]
    num_weights = sum(layer.num_weights for layer in t.layers)
    num_runs = sum(layer.num_runs for layer in t.layers)
    stored = 0 if t.features_in_flash else t.num_samples * (1 + t.num_views) * t.num_features
    prototypes = t.has_prototypes * (1 + t.averages) * align(4 * t.num_classes * t.dimension)
    memory = TrainingMemory(
        state={
            "samples": align(stored) + align(t.num_samples),
            "plan": t.plan.num_bytes if t.plan else 0,
            "weights": sum(layer.num_bytes for layer in t.layers),
            "masters": align(4 * num_weights) if t.weights == "float_masters" else 0,
            "optimizer": align(4 * (num_weights * slots + num_runs * run_slots)),
            "prototypes": prototypes,
        },
        frozen={
            "features": whole_blocks(t.num_features) if t.features_in_flash else align(t.num_features),
            "image": align(t.num_pixels) if t.num_views else 0,
        },
        training={
            "weight_gradients": align(4 * num_weights),
            "activation_gradients": align(t.gradient_bytes),
            "head": _head_bytes(t),
        },
    )
    return memory if t.closed_form is None else _with_closed_form(memory, t, t.closed_form)


def _with_closed_form(memory: TrainingMemory, t: Training, head: ClosedForm) -> TrainingMemory:
    """The C++ function `ClosedForm::RequiredBytes`."""
    predicting = memory.frozen["features"] + align(head.num_elements)
    working = max(predicting, head.solving_bytes(t.num_samples, t.num_classes))
    state = head.state_bytes(t.num_classes, averages=t.averages)
    return dataclasses.replace(memory, closed_form=state, solving=working + memory.training["head"])


def variables_bytes(image_bytes: int) -> int:
    """Of a sketch's variables beside the two arenas.

    Args:
        image_bytes: of a buffer for the image; 0 where the frozen part's input is that buffer.
    """
    return _VARIABLES_BYTES + align(image_bytes)


def _head_bytes(t: Training) -> int:
    """Logits and, of prototypes, one embedding, samples per class, and more by the settings."""
    logits, embedding = align(4 * t.num_classes), align(4 * t.dimension)
    if not t.has_prototypes:
        return logits
    num_bytes = 2 * logits + embedding  # the second are samples per class
    if t.leave_one_out:
        num_bytes += embedding  # the prototype that a sample is left out of
    if t.late_prototypes or (t.leave_one_out and (t.num_views or t.immediate)):
        num_bytes += align(t.num_samples * t.dimension)  # the samples' own embeddings, int8
    return num_bytes + (logits if t.averages else 0)  # the original network's logits


def with_total(parts: dict[str, int]) -> dict[str, int]:
    """`parts` and their sum, "total"."""
    return {**parts, "total": sum(parts.values())}
