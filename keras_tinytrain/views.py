"""Views that a device keeps of each sample, as Python, the command line and a bundle name them."""

from collections.abc import Iterable, Sequence


def checked_views(views: Iterable[Sequence[int]]) -> tuple[tuple[int, int, bool], ...]:
    """(shift_y, shift_x, mirrored) of each.

    Args:
        views: rows (shift_y, shift_x) or (shift_y, shift_x, mirrored) in pixels, as `augmentation.shift_views` takes them.

    Raises:
        ValueError: there are more than 255, or one is not two numbers of 16 bits and perhaps 0 or 1.
    """
    rows = [tuple(map(int, view)) for view in views]
    fit = all(len(row) in (2, 3) and max(map(abs, row[:2])) <= 32767 and row[2:] in ((), (0,), (1,)) for row in rows)
    if len(rows) > 255 or not fit:
        raise ValueError(
            "views expects at most 255 rows of pixels, (shift_y, shift_x) or (shift_y, shift_x, mirrored). Received: "
            f"{rows[:5]}"
        )
    return tuple((row[0], row[1], row[2:] == (1,)) for row in rows)
