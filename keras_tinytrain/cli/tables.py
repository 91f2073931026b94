"""Tables for people: what was chosen and why, bytes promised and used, accuracies."""

from rich.table import Table

from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.explain import HEADINGS
from keras_tinytrain.plan import Plan


def plan_table(plan: Plan) -> Table:
    """Each candidate layer in the order of its score: potential, size, what was taken of it, and why no more."""
    explanation = plan.explanation
    table = Table(title=_title(plan), title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("layer", "why") else "right")
    taken = paper_cost.num_channels(plan)
    for name in explanation.order:
        table.add_row(*explanation.cells(plan, name), style="bold" if name in taken else "dim")
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


def weights_table(choices: list[dict]) -> Table:
    """What RAM holds of each trained layer and what either way takes, as a bundle's manifest["weights_in_ram"] says."""
    table = Table(title="Weights in RAM, bytes", title_justify="left")
    for heading in ("layer", "whole layer", "trained channels", "model arena grows by", "RAM holds"):
        table.add_column(heading, justify="left" if heading in ("layer", "RAM holds") else "right")
    for choice in choices:
        growth = "not asked" if choice["arena_growth"] is None else f"{choice['arena_growth']:,}"
        held = "trained channels" if choice["split"] else "whole layer"
        table.add_row(choice["name"], f"{choice['whole_bytes']:,}", f"{choice['selected_bytes']:,}", growth, held)
    return table


def accuracy_table(rows: dict[str, tuple[float, int, int]]) -> Table:
    """{method: (accuracy in percent, trained weights, backward MACs)}."""
    table = Table(title="Accuracy on the samples not learned from", title_justify="left")
    for heading in ("method", "accuracy %", "trained weights", "backward MACs a sample"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method, (accuracy, weights, macs) in rows.items():
        table.add_row(method, f"{accuracy:.1f}", f"{weights:,}", f"{macs:,}")
    return table


def _title(plan):
    table, trained = plan.explanation.table, paper_cost.num_channels(plan)
    macs, full = paper_cost.backward_macs(table, trained), paper_cost.full_backward_macs(table)
    weights, num_bytes = (
        paper_cost.num_trained_weights(table, trained),
        plan.explanation.accounting.memory_bytes(table, trained),
    )
    share = f"{100 * macs / full:.1f} % of training everything"
    return f"Plan: {weights:,} weights, {num_bytes:,} bytes, {macs:,} backward MACs a sample ({share})"
