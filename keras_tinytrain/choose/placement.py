"""Place buffers in one region of memory, so that those which are alive together do not overlap."""

import dataclasses

from keras_tinytrain.tflm_runtime.rounding import align


@dataclasses.dataclass(frozen=True)
class Span:
    """A buffer that is alive from step `first` to step `last`, both included."""

    num_bytes: int
    first: int
    last: int

    def overlaps(self, other: "Span") -> bool:
        return self.first <= other.last and other.first <= self.last


def place(spans: list[Span]) -> tuple[list[int], int, int]:
    """Offsets at which buffers that are alive together do not overlap.

    Greedy best fit: each buffer goes into the tightest gap that the buffers placed before it leave. Three orders are tried
    (largest first, longest-lived first, in order of birth), and the best arrangement is taken.

    Returns:
        (offset per span, bytes in all, lower bound). The lower bound is the most bytes that are alive at one step: no
        arrangement needs less. All are multiples of 16.
    """
    orders = (
        sorted(range(len(spans)), key=lambda i: (-spans[i].num_bytes, spans[i].first)),
        sorted(range(len(spans)), key=lambda i: (spans[i].first - spans[i].last, -spans[i].num_bytes)),
        sorted(range(len(spans)), key=lambda i: (spans[i].first, -spans[i].num_bytes)),
    )
    total, offsets = min((_place_in_order(spans, order) for order in orders), key=lambda arrangement: arrangement[0])
    steps = {span.first for span in spans}
    bound = max((sum(align(s.num_bytes) for s in spans if s.first <= step <= s.last) for step in steps), default=0)
    return offsets, total, bound


def _place_in_order(spans: list[Span], order: list[int]) -> tuple[int, list[int]]:
    """(bytes in all, offset per span)."""
    offsets: dict[int, int] = {}
    for index in order:
        taken = sorted(
            (offset, offset + align(spans[other].num_bytes))
            for other, offset in offsets.items()
            if spans[other].overlaps(spans[index])
        )
        offsets[index] = _tightest_gap(taken, align(spans[index].num_bytes))
    total = max((offset + align(spans[index].num_bytes) for index, offset in offsets.items()), default=0)
    return total, [offsets[index] for index in range(len(spans))]


def _tightest_gap(taken: list[tuple[int, int]], num_bytes: int) -> int:
    """Offset of the smallest gap between the (begin, end) intervals `taken` that holds `num_bytes`, or the end of them all."""
    gaps, end = [], 0
    for begin, stop in taken:
        if begin - end >= num_bytes:
            gaps.append((begin - end, end))
        end = max(end, stop)
    return min(gaps)[1] if gaps else end
