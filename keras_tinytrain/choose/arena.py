"""How TensorFlow Lite Micro's planner lays the tensors of a model into its arena."""

from collections.abc import Iterable


def placed_bytes(tensors: Iterable[tuple[int, int, int]]) -> int:
    """Bytes that all tensors take, which may be more than are alive at any one moment.

    The largest is placed first; of equal ones, the one that was announced last. Each takes the lowest offset where it overlaps
    no tensor that is alive together with it (GreedyMemoryPlanner).

    Args:
        tensors: (bytes, first, last) in the order of the model, in which they are announced: each is alive from moment `first`
            to moment `last`.

    Example:
        >>> placed_bytes([(2, 0, 1), (3, 1, 2), (2, 2, 3)])
        5
    """
    placed: list[tuple[int, int, int, int]] = []  # (offset, end, first, last)
    last_first = list(tensors)[::-1]
    for size, first, last in sorted(last_first, key=lambda tensor: -tensor[0]):
        offset = 0
        for begin, end, *_ in sorted(other for other in placed if other[2] <= last and first <= other[3]):
            if begin - offset >= size:
                break
            offset = max(offset, end)
        placed.append((offset, offset + size, first, last))
    return max((end for _, end, *_ in placed), default=0)
