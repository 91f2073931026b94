"""How many bytes training takes, part by part: computed by rule, so that the runtime's own report can be held against it."""

import dataclasses

from keras_tinytrain.choose.sram import OPTIMIZERS
from keras_tinytrain.tflm_runtime.headers import constant

ALIGNMENT = 16
BLOCK_BYTES = constant("tinytrain_flash.h", "kFlashBlockBytes")
_PLAN_TABLES_BYTES, _PLAN_LAYER_BYTES = 256, 64  # kPlanTablesBytes, kPlanLayerBytes in tinytrain/memory/memory.h


@dataclasses.dataclass(frozen=True)
class Span:
    """A buffer that is alive from step `first` to step `last`, both included."""

    num_bytes: int
    first: int
    last: int

    def overlaps(self, other: "Span") -> bool:
        return self.first <= other.last and other.first <= self.last


def align(num_bytes: int) -> int:
    """`num_bytes` rounded up to a multiple of 16."""
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT


def place(spans: list[Span]) -> tuple[list[int], int, int]:
    """Offsets at which buffers that are alive together do not overlap.

    Greedy best fit: each buffer goes into the tightest gap that those placed before leave. Three orders are tried (largest
    first, longest-lived first, in order of birth), the best one is taken.

    Returns:
        (offset per span, bytes in all, lower bound): the bound is the most bytes alive at one step, no arrangement
        needs less. All are multiples of 16.
    """
    orders = (
        lambda i: (-spans[i].num_bytes, spans[i].first),
        lambda i: (spans[i].first - spans[i].last, -spans[i].num_bytes),
        lambda i: (spans[i].first, -spans[i].num_bytes),
    )
    arrangements = [_place_in_order(spans, sorted(range(len(spans)), key=order)) for order in orders]
    total, offsets = min(arrangements, key=lambda arrangement: arrangement[0])
    steps = {span.first for span in spans}
    bound = max((sum(align(s.num_bytes) for s in spans if s.first <= step <= s.last) for step in steps), default=0)
    return offsets, total, bound


@dataclasses.dataclass(frozen=True)
class TrainingMemory:
    """The C++ struct `MemoryParts`: what the trainer takes, by part, in bytes.

    Args:
        state: what lasts; it has an arena of its own.
        frozen: what is needed beside the frozen part while that runs: its output and one view of an image, its input.
        training: what is needed beside the trainable part while it trains.

    The frozen part never runs while the trainable one trains, so that `frozen` and `training` take the same bytes, the
    scratch, at the end of the arena in which both models take turns.
    """

    state: dict[str, int]
    frozen: dict[str, int]
    training: dict[str, int]

    @classmethod
    def of(cls, parts: dict[str, int]) -> "TrainingMemory":
        """From the fields of `MemoryParts`, as the runtime reports them."""
        names = (
            ("samples", "plan", "weights", "masters", "optimizer", "prototypes"),
            ("features", "image"),
            ("weight_gradients", "activation_gradients", "head"),
        )
        return cls(*({name: parts[name] for name in group} for group in names))

    @property
    def state_bytes(self) -> int:
        return sum(self.state.values())

    @property
    def scratch_bytes(self) -> int:
        gradients = self.training["weight_gradients"] + self.training["activation_gradients"]
        training = max(gradients, self.frozen["features"]) + self.training["head"]  # features outlive a run that predicts
        return max(sum(self.frozen.values()), training)

    @property
    def scratch(self) -> dict[str, int]:
        """By part; no sum, they lie over one another."""
        return {**self.frozen, **self.training}

    def model_arena(self, frozen_arena: int, trainable_arena: int) -> int:
        """Bytes of the one arena (SharedArenaModel): for the frozen part and its view, or the trainable part and scratch."""
        return max(frozen_arena + self.frozen["image"], trainable_arena + self.scratch_bytes)

    def sram(self, frozen_arena: int, trainable_arena: int) -> dict[str, int]:
        """All of it with the models' arena, and "total"; "plan" only where the device chooses one."""
        state = {name: num_bytes for name, num_bytes in self.state.items() if num_bytes or name != "plan"}
        return with_total({**state, "model_arena": self.model_arena(frozen_arena, trainable_arena)})


def with_total(parts: dict[str, int]) -> dict[str, int]:
    return {**parts, "total": sum(parts.values())}


def training_memory(graph, settings, *, head: str, image_bytes: int, num_views: int, features: str = "ram") -> TrainingMemory:
    """What `Trainer::RequiredBytes` reports, computed without it; every part is a multiple of 16.

    Args:
        graph: a `TrainableGraph`.
        settings: a `TrainingSettings`.
        head: "prototypes" or "softmax".
        image_bytes: int8 values of one input of the whole model.
        num_views: augmented copies that are kept of each sample.
        features: "ram" or "flash": where the frozen part's outputs are kept.
    """
    num_features, dimension = graph.tensors[0].size, graph.tensors[-1].size
    weights = num_trained = num_runs = 0
    for trained in graph.trained:
        layer = graph.layers[trained.layer]
        weights += layer_bytes(layer, len(trained.channels) if trained.is_split else len(layer.kernel_scales))
        num_trained += len(trained.channels) * (layer.weights_per_channel + (layer.bias is not None))
        num_runs += len(trained.channels) * (1 + (layer.bias is not None))  # a channel's kernel, and its bias
    num_samples, num_classes = settings.max_samples, settings.num_classes
    has_prototypes, in_flash, averages = (
        head == "prototypes",
        features == "flash",
        head == "prototypes" and settings.average > 0,
    )
    slots, run_slots = OPTIMIZERS[settings.optimizer]
    return TrainingMemory(
        state={
            "samples": (0 if in_flash else align(num_samples * (1 + num_views) * num_features)) + align(num_samples),
            "plan": plan_bytes(graph),
            "weights": weights,
            "masters": align(4 * num_trained) if settings.weights == "float_masters" else 0,
            "optimizer": align(4 * (num_trained * slots + num_runs * run_slots)),
            "prototypes": (has_prototypes + averages) * align(4 * num_classes * dimension),
        },
        frozen={
            "features": whole_blocks(num_features) if in_flash else align(num_features),
            "image": align(image_bytes) if num_views else 0,
        },
        training={
            "weight_gradients": align(4 * num_trained),
            "activation_gradients": align(graph.gradient_bytes),
            "head": align(4 * num_classes) + (prototype_scratch_bytes(settings, dimension, num_views) if has_prototypes else 0),
        },
    )


def plan_bytes(graph) -> int:
    """A plan that the device chooses: tables, trained layers, and channels or, while there are none, scores."""
    if not graph.candidates:
        return 0
    num_listed = sum(len(trained.channels) for trained in graph.trained)
    num_scored = sum(len(candidate.channels) for candidate in graph.candidates)
    return _PLAN_TABLES_BYTES + align(_PLAN_LAYER_BYTES * len(graph.candidates)) + align(2 * num_listed or 4 * num_scored)


def prototype_scratch_bytes(settings, dimension: int, num_views: int) -> int:
    """What the head "prototypes" needs beside the logits: one embedding, samples per class, and by the settings more."""
    num_bytes = align(4 * dimension) + align(4 * settings.num_classes)
    if settings.leave_one_out:
        num_bytes += align(4 * dimension)  # the prototype that one is left out of
        if num_views or settings.updates == "immediate":
            num_bytes += align(settings.max_samples * dimension)  # the samples' own embeddings
    return num_bytes + (align(4 * settings.num_classes) if settings.average else 0)  # the original network's logits


def whole_blocks(num_bytes: int) -> int:
    """`num_bytes` rounded up to what one write of flash takes."""
    return -(-num_bytes // BLOCK_BYTES) * BLOCK_BYTES


def whole_pages(num_bytes: int, page_bytes: int) -> int:
    """`num_bytes` rounded up to pages; 0 where the page size is not known."""
    return -(-num_bytes // page_bytes) * page_bytes if page_bytes else 0


def feature_flash_bytes(graph, settings, *, num_views: int) -> int:
    """Flash of all samples' features, without the rest of the last page: the C++ function `FlashSamplesBytes`."""
    return settings.max_samples * (1 + num_views) * whole_blocks(graph.tensors[0].size)


def delta_bytes(graph, settings, *, head: str) -> int:
    """Size of a delta: `Trainer::DeltaBytes`; the format stands in tinytrain_delta.h.

    With candidates: of one that holds them all, less their channels' weights, which take no more bytes than they do in RAM.
    """

    def record(name, num_channels, channel_bytes):
        return 1 + len(name.encode()) + 8 + num_channels * (2 + channel_bytes)

    layers = [graph.layers[trained.layer] for trained in graph.trained]
    records = [
        record(trained.name, len(trained.channels), layer.weights_per_channel + 4 * (layer.bias is not None))
        for trained, layer in zip(graph.trained, layers)
    ]
    records += [record(candidate.name, 0, 0) for candidate in graph.candidates]
    if head == "prototypes":
        names = ["prototypes"] + ["original_prototypes"] * bool(settings.average)
        records += [record(name, settings.num_classes, 4 * graph.tensors[-1].size) for name in names]
    return 48 + sum(records) + 4


def layer_bytes(layer, num_channels: int) -> int:
    """Bytes of kernel and bias of so many output channels of a `graph.Layer` in RAM."""
    return align(num_channels * layer.weights_per_channel) + (0 if layer.bias is None else align(4 * num_channels))


def _place_in_order(spans, order):
    """(bytes in all, offset per span)."""
    offsets = {}
    for index in order:
        taken = sorted(
            (offset, offset + align(spans[other].num_bytes))
            for other, offset in offsets.items()
            if spans[other].overlaps(spans[index])
        )
        offsets[index] = _tightest_gap(taken, align(spans[index].num_bytes))
    total = max((offset + align(spans[index].num_bytes) for index, offset in offsets.items()), default=0)
    return total, [offsets[index] for index in range(len(spans))]


def _tightest_gap(taken, num_bytes):
    """Offset of the smallest gap between the (begin, end) intervals `taken` that holds `num_bytes`, or behind them all."""
    best, best_gap, end = None, None, 0
    for begin, stop in taken:
        gap = begin - end
        if gap >= num_bytes and (best is None or gap < best_gap):
            best, best_gap = end, gap
        end = max(end, stop)
    return end if best is None else best
