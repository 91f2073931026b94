"""Tables for people: a plan and its reasons, bytes promised and used, accuracies."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table

from keras_tinytrain._text import kilobytes
from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.explain import HEADINGS, explanation_of
from keras_tinytrain.plan import Plan

_BAR_WIDTH = 30  # characters
_PLAN_HEADINGS = ("layer", "score", "channels", "why")  # of HEADINGS, those that leave room for "why" in 80 columns


def table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], *, left: Sequence[str] = (), folds_names: bool = False
) -> Table:
    """A table whose columns stand to the right, except the first and those named in `left`; rows of totals are bold.

    A name in the first column is never cut short. With `folds_names` one that is too long goes on in the next line, so that the
    numbers beside it keep their room.
    """
    result = Table(title=title, title_justify="left")
    for index, heading in enumerate(headings):
        is_left = index == 0 or heading in left
        result.add_column(heading, justify="left" if is_left else "right", no_wrap=(index == 0) != folds_names, overflow="fold")
    for row in rows:
        result.add_row(*row, style="bold" if row[0].endswith("total") else None)
    return result


def plan_table(plan: Plan, *, is_laid_out: bool = False) -> Table:
    """Each candidate layer in the order of its score: channels taken, and why no more. `Plan.explain` has more columns.

    Args:
        plan: one that was chosen in this process.
        is_laid_out: its export's bytes are told beside it, so that the estimate by which it was chosen is not.
    """
    explanation = explanation_of(plan)
    taken = paper_cost.num_channels(plan)
    result = table(_title(plan, explanation, is_laid_out), _PLAN_HEADINGS, [], left=("why",))
    for name in explanation.order:
        cells = dict(zip(HEADINGS, explanation.cells(plan, name), strict=True))
        result.add_row(*(cells[heading] for heading in _PLAN_HEADINGS), style="bold" if name in taken else "dim")
    return result


def flat_bytes(memories: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """{"sram": {...}, "flash": {...}} of a bundle as one level: SRAM parts and "total", flash parts as "flash_..."."""
    return {**memories["sram"], **{f"flash_{part}": count for part, count in memories["flash"].items()}}


def bytes_table(promised: Mapping[str, int], used: Mapping[str, int] | None = None) -> Table:
    """Bytes by part, promised and, where known, used; both as `flat_bytes` gives them."""
    headings = ("part", "promised", *(["used"] if used else []))
    rows = [(part, f"{count:,}", *([f"{used[part]:,}"] if used else [])) for part, count in promised.items()]
    return table("Memory in bytes", headings, rows)


def memory_bars(sram_bytes: int, flash_bytes: int, board: Mapping) -> Group:
    """How much of a board is taken: "95 of 256 KB" and a bar, for SRAM and for flash.

    Args:
        sram_bytes, flash_bytes: taken.
        board: a bundle's manifest["board"].
    """
    grid = Table.grid(padding=(0, 1))
    for name, used, available in (
        ("SRAM", sram_bytes, board["sram_bytes"]),
        ("flash", flash_bytes, board["flash_bytes"]),
    ):
        grid.add_row(name, memory_in_words(used, available), ProgressBar(available, used, width=_BAR_WIDTH))
    return Group(f"On board {board['name']}:", grid)


def memory_in_words(used_bytes: int, available_bytes: int) -> str:
    """ "95 of 256 KB"."""
    return f"{kilobytes(used_bytes)} of {kilobytes(available_bytes)} KB"


def weights_table(choices: Sequence[Mapping]) -> Table:
    """The bytes of each trained layer in RAM, whole or its trained channels alone, from manifest["weights_in_ram"]."""
    rows = []
    for choice in choices:
        growth = "not asked" if choice["arena_growth"] is None else f"{choice['arena_growth']:,}"
        held = "trained channels" if choice["split"] else "whole layer"
        rows.append((choice["name"], f"{choice['whole_bytes']:,}", f"{choice['selected_bytes']:,}", growth, held))
    headings = ("layer", "whole layer", "trained channels", "model arena grows by", "RAM holds")
    return table("Weights in RAM, bytes", headings, rows, left=("RAM holds",))


def accuracy_table(rows: Mapping[str, tuple[float, int, int]]) -> Table:
    """{method: (accuracy in percent, trained weights, backward MACs)}."""
    headings = ("method", "accuracy %", "trained weights", "backward MACs a sample")
    cells = [(method, f"{accuracy:.1f}", f"{weights:,}", f"{macs:,}") for method, (accuracy, weights, macs) in rows.items()]
    return table("Accuracy on the samples not learned from", headings, cells)


def _title(plan, explanation, is_laid_out):
    layers, trained = explanation.table, paper_cost.num_channels(plan)
    macs, full = paper_cost.backward_macs(layers, trained), paper_cost.full_backward_macs(layers)
    weights, num_bytes = paper_cost.num_trained_weights(layers, trained), explanation.accounting.memory_bytes(layers, trained)
    share = f"{100 * macs / full:.1f} % of training everything"
    in_bytes = "" if is_laid_out else f" about {num_bytes:,} bytes,"
    return f"Plan: {weights:,} weights,{in_bytes} {macs:,} backward MACs a sample ({share})"
