"""Tables for people: what was chosen and why, bytes promised and used, accuracies."""

from rich.table import Table

from keras_tinytrain import cost
from keras_tinytrain.fisher import potential
from keras_tinytrain.planner import Choice


def choice_table(choice: Choice) -> Table:
    """Each candidate layer in the order of its score: potential, size, and what was taken of it."""
    table = Table(title=_title(choice), title_justify="left")
    for heading in ("layer", "Fisher potential", "weights", "forward MACs", "score", "channels", "trained weights"):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    taken = cost.num_channels(choice.plan)
    for name in sorted(choice.ranking.layers, key=choice.ranking.layers.get, reverse=True):
        row, count = choice.table[name], taken.get(name, 0)
        table.add_row(
            name,
            f"{potential(choice.scores[name]):.3g}",
            f"{row.num_weights:,}",
            f"{row.macs:,}",
            f"{choice.ranking.layers[name]:.3g}",
            f"{count} of {row.num_channels}" if count else "-",
            f"{count * row.weights_per_channel:,}" if count else "-",
            style="bold" if count else "dim",
        )
    return table


def flat_bytes(memories: dict[str, dict[str, int]]) -> dict[str, int]:
    """{"sram": {...}, "flash": {...}} of a bundle as one level: SRAM parts and "total", flash parts as "flash_..."."""
    return {**memories["sram"], **{f"flash_{part}": count for part, count in memories["flash"].items()}}


def bytes_table(promised: dict[str, int], used: dict[str, int] | None = None) -> Table:
    """Bytes by part, promised and, where known, used; both as `flat_bytes` gives them."""
    table = Table(title="Memory in bytes", title_justify="left")
    for heading in ("part", "promised", *(["used"] if used else [])):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for part, count in promised.items():
        style = "bold" if "total" in part else None
        table.add_row(part, f"{count:,}", *([f"{used[part]:,}"] if used else []), style=style)
    return table


def accuracy_table(rows: dict[str, tuple[float, int, int]]) -> Table:
    """{method: (accuracy in percent, trained weights, backward MACs)}."""
    table = Table(title="Accuracy on the samples not learned from", title_justify="left")
    for heading in ("method", "accuracy %", "trained weights", "backward MACs a sample"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method, (accuracy, weights, macs) in rows.items():
        table.add_row(method, f"{accuracy:.1f}", f"{weights:,}", f"{macs:,}")
    return table


def _title(choice):
    trained = cost.num_channels(choice.plan)
    macs, full = cost.backward_macs(choice.table, trained), cost.full_backward_macs(choice.table)
    weights = cost.num_trained_weights(choice.table, trained)
    return f"Plan: {weights:,} weights, {macs:,} backward MACs a sample ({100 * macs / full:.1f} % of training everything)"
