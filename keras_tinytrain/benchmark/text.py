"""Columns of text."""


def aligned(rows: list[tuple[str, ...]], *, num_left: int = 1) -> str:
    """Rows as lines, the first `num_left` columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = (cell.ljust(w) if column < num_left else cell.rjust(w) for column, (cell, w) in enumerate(zip(row, widths)))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
