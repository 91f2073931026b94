"""Fill a budget with channels: pure functions over {layer name: number of channels} and a predicate `fits`.

Every function returns a choice that fits and to which no further channel of any layer can be added.
"""

import heapq
import math
from collections.abc import Callable, Mapping, Sequence

LEAST_SHARE = 1 / 8  # of a layer's channels. Where less fits, layers that are worth more come first

Choice = dict[str, int]
Fits = Callable[[Choice], bool]


def fill_by_layer(
    order: list[str],
    sizes: Choice,
    fits: Fits,
    *,
    scores: Mapping[str, float] | None = None,
    first: Mapping[str, int] | None = None,
) -> Choice:
    """The paper's rule: layers in `order`, each with as many channels as still fit.

    A layer of which less than an eighth fits lets others pass, so that it does not take their budget for a few of its channels.
    Only those pass that are worth more: a layer's worth is its score times the share of its channels that fits. The rest of the
    budget is filled at the end.

    Args:
        order: layer names, best first.
        sizes: channels of each layer.
        fits: whether a choice is within budget.
        scores: of the layers; None: all the same.
        first: channels of other layers that are part of the choice from the start.
    """

    def worth(part):
        name, count = part
        return (scores[name] if scores else 1.0) * count / sizes[name]

    choice: Choice = dict(first or {})
    while parts := _next_parts(choice, [name for name in order if name not in choice], sizes, fits):
        name, count = max(parts.items(), key=worth)
        choice[name] = count
    return top_up(choice, order, sizes, fits)


def _next_parts(choice, waiting, sizes, fits):
    """Channels that fit of the first layer of which an eighth fits, and of those before it; {} where there is none."""
    parts = {}
    for name in waiting:
        if count := _largest_fitting(choice, name, sizes[name], fits):
            parts[name] = count
        if count >= math.ceil(LEAST_SHARE * sizes[name]):
            return parts
    return {}


def fill_by_channel(
    order: list[str], densities: Mapping[str, Sequence[float]], fits: Fits, *, first: Mapping[str, int] | None = None
) -> Choice:
    """A greedy knapsack: channels of all layers in decreasing value per weight, for as long as they fit.

    Args:
        order: layer names; of equal channels the one of the earlier layer is first.
        densities: value per weight of each layer's channels, decreasing.
        fits: whether a choice is within budget.
        first: as for `fill_by_layer`.
    """
    choice: Choice = dict(first or {})
    sizes = {name: len(values) for name, values in densities.items()}
    heap = [(-densities[name][0], rank, name) for rank, name in enumerate(order)]
    heapq.heapify(heap)
    while heap:
        _, rank, name = heapq.heappop(heap)
        larger = {**choice, name: choice.get(name, 0) + 1}
        if fits(larger):  # else this layer is full: costs grow with every channel
            choice = larger
            if choice[name] < sizes[name]:
                heapq.heappush(heap, (-densities[name][choice[name]], rank, name))
    return top_up(choice, order, sizes, fits)


def top_up(choice: Choice, order: list[str], sizes: Choice, fits: Fits) -> Choice:
    """Add channels, of layers that are in `choice` first, until none fits."""
    choice, grown = dict(choice), True
    while grown:  # once is enough, unless a layer made the cut move to a smaller tensor and so made room
        grown = False
        for name in sorted(order, key=lambda name: name not in choice):
            count = _largest_fitting(choice, name, sizes[name], fits)
            if count > choice.get(name, 0):
                choice[name], grown = count, True
    return choice


def _largest_fitting(choice, name, size, fits):
    """The largest number of channels of layer `name` that fits together with the rest of `choice`; costs grow with it."""
    fitting, too_many = choice.get(name, 0), size + 1
    while too_many - fitting > 1:
        half = (fitting + too_many) // 2
        if fits({**choice, name: half}):
            fitting = half
        else:
            too_many = half
    return fitting
