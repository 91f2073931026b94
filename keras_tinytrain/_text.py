"""Numbers, columns and errors as people read them."""

from collections.abc import Sequence

KILOBYTE = 1024  # bytes, everywhere


def aligned(rows: Sequence[Sequence[str]], *, num_left: int = 1, left_columns: Sequence[int] = ()) -> str:
    """Rows as lines of columns.

    Args:
        rows: cells, as many in each row.
        num_left: the first so many columns stand to the left, the others to the right.
        left_columns: more columns that stand to the left.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = {*range(num_left), *left_columns}
    lines = []
    for row in rows:
        cells = [cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """A time in the two units that matter.

    Example:
        >>> duration(0.035), duration(4.21), duration(253.076), duration(7500)
        ('35 ms', '4.2 s', '4 min 13 s', '2 h 5 min')
    """
    if 0 < seconds < 0.9995:
        return f"{1000 * seconds:.{0 if seconds >= 0.01 else 1}f} ms"
    if seconds < 1:
        return f"{seconds:.0f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return "{} h {} min".format(*divmod(round(seconds / 60), 60))


def kilobytes(num_bytes: int) -> str:
    """Bytes in KB of 1,024 bytes, as `Budget` and data sheets count them, without the unit: "0.3", "8.2", "95".

    Example:
        >>> f"{kilobytes(97_312)} of {kilobytes(262_144)} KB"
        '95 of 256 KB'
    """
    return f"{num_bytes / KILOBYTE:,.{0 if num_bytes >= 9.95 * KILOBYTE else 1}f}"


def first_paragraph(error: BaseException) -> str:
    """The part of an error's text that a person is shown; its kind where it has none."""
    return str(error).strip().split("\n\n")[0] or type(error).__name__


def keras_reason(error: BaseException) -> str:
    """Why Keras could not make an object from its configuration, without the configuration, which Keras prints first."""
    text = str(error).strip()
    reason = text.rpartition("Exception encountered: ")[2] or text
    return reason.split("\n\n")[0].split("\n\t")[0].split(", config={")[0].strip()
