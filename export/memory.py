"""How many bytes training takes, part by part: computed by rule, so that the runtime's own report can be held against it."""

import dataclasses

ALIGNMENT = 16
NUM_OPTIMIZER_SLOTS = {"sgd": (0, 0), "momentum": (1, 0), "adam": (2, 0), "adam_per_channel": (1, 1)}  # a weight, a run of them


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


def training_memory(graph, settings, *, head: str, image_bytes: int, num_views: int) -> dict[str, int]:
    """Bytes of the trainer's arena, by part: what `Trainer::RequiredBytes` reports, computed without it.

    Args:
        graph: a `TrainableGraph`.
        settings: a `TrainingSettings`.
        head: "prototypes" or "softmax".
        image_bytes: int8 values of one input of the whole model.
        num_views: augmented copies that are kept of each sample.

    Returns:
        The fields of the C++ struct `MemoryParts` without their total, each a multiple of 16.
    """
    features, dimension = graph.tensors[0].size, graph.tensors[-1].size
    weights = num_trained = num_runs = 0
    for trained in graph.trained:
        layer = graph.layers[trained.layer]
        weights += align(layer.kernel.size) + (0 if layer.bias is None else align(4 * len(layer.bias)))
        num_trained += len(trained.channels) * (layer.weights_per_channel + (layer.bias is not None))
        num_runs += len(trained.channels) * (1 + (layer.bias is not None))  # a channel's kernel, and its bias
    num_samples, num_classes = settings.max_samples, settings.num_classes
    slots, run_slots = NUM_OPTIMIZER_SLOTS[settings.optimizer]
    return {
        "samples": align(num_samples * (1 + num_views) * features) + align(num_samples),
        "image": align(image_bytes) if num_views else 0,
        "weights": weights,
        "masters": align(4 * num_trained) if settings.weights == "float_masters" else 0,
        "weight_gradients": align(4 * num_trained),
        "optimizer": align(4 * (num_trained * slots + num_runs * run_slots)),
        "activation_gradients": align(max(graph.gradient_bytes, features)),  # Predict keeps features there
        "prototypes": prototype_bytes(settings, dimension, num_views) if head == "prototypes" else align(4 * num_classes),
    }


def prototype_bytes(settings, dimension, num_views):
    """Bytes of the head "prototypes": prototypes, one embedding, logits, samples per class, and more by the settings."""
    num_classes = settings.num_classes
    num_bytes = align(4 * num_classes * dimension) + align(4 * dimension) + 2 * align(4 * num_classes)
    if settings.leave_one_out:
        num_bytes += align(4 * dimension)  # the prototype that one is left out of
        if num_views or settings.updates == "immediate":
            num_bytes += align(settings.max_samples * dimension)  # the samples' own embeddings
    if settings.average:
        num_bytes += align(4 * num_classes * dimension) + align(4 * num_classes)  # original prototypes, and their logits
    return num_bytes


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
