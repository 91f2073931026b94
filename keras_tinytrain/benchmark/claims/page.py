"""The claims as text, as values, and as a page in Markdown."""

import platform
from collections.abc import Mapping, Sequence

import keras_tinytrain
from keras_tinytrain._text import aligned, duration
from keras_tinytrain.benchmark.claims.abstract import CLAIMS, OURS, PAPER, Claim
from keras_tinytrain.benchmark.claims.evidence import Evidence
from keras_tinytrain.benchmark.claims.measured import BOARD, METHODS

Rows = Sequence[Mapping[str, str]]
_HEAD = """# The abstract, claim by claim

Written by the command below, from what it computed and measured; not by hand. keras-tinytrain {version}, {processor}.

    {command}

Each table has the paper's figure first, then ours in the same accounting where there is one, with the difference, then plain
accountings: equal batches, forward passes and the choice of channels included, whole tasks in the same runtime. "Chosen there" means
that the board itself chose the channels. The last section says what was measured.
"""
_TASKS = """A task has 5 classes of 5 samples each and 40 iterations without views, learned by the exported C++ in int8 (Adam with one
second moment by channel, samples in flash). "Time" and "J" are those of a {board} at {clock:.0f} MHz: instructions are counted on an
emulated Cortex-M4F, its cycles are estimated from them, and so are forward passes unless TensorFlow Lite Micro is linked. FullTrain fits no
such board: each method has as much memory as it takes, and a board that chooses has the paper's budget, which it fills. "This processor" is the time of one thread of the machine above, by `EdgeRuntime`; run the
command on a Raspberry Pi to see that board's.
"""
_DIFFERENCE = "difference, %"


def values(found: Sequence[Evidence]) -> dict[str, dict[str, dict[str, float]]]:
    """{claim: {network: {column: figure}}}, without what is not known."""
    return {claim.title: {each.name: _known(claim, each) for each in found if _known(claim, each)} for claim in CLAIMS}


def text(found: Sequence[Evidence], rows: Rows) -> str:
    """For a terminal."""
    parts = [f"{claim.title}\n{claim.against}\n\n{aligned(_table(claim, found))}\n\n{claim.remark}" for claim in CLAIMS]
    return "\n\n\n".join([*parts, f"Measured\n\n{aligned(_measured_table(rows), num_left=2)}"])


def page(found: Sequence[Evidence], rows: Rows, command: str) -> str:
    """In Markdown.

    Args:
        command: the line by which it was asked for.
    """
    head = _HEAD.format(
        version=keras_tinytrain.__version__, processor=platform.processor() or platform.machine(), command=command
    )
    parts = [
        f"## {claim.title[0].upper()}{claim.title[1:]}\n\n{claim.against}\n\n{_markdown(_table(claim, found))}\n\n{claim.remark}"
        for claim in CLAIMS
    ]
    tasks = _TASKS.format(board=BOARD.name, clock=BOARD.clock_hz / 1e6)
    return "\n\n".join([head.rstrip(), *parts, f"## What was measured\n\n{tasks}\n{_markdown(_measured_table(rows))}"]) + "\n"


def _known(claim: Claim, network: Evidence) -> dict[str, float]:
    figures = {heading: figure(network) for heading, figure in claim.columns.items()}
    known = {heading: value for heading, value in figures.items() if value is not None}
    if PAPER in known and OURS in known:
        known[_DIFFERENCE] = 100 * (known[OURS] / known[PAPER] - 1)
    return known


def _table(claim: Claim, found: Sequence[Evidence]) -> list[tuple[str, ...]]:
    """Headings, then a line for each network, without columns that are empty in all."""
    known = {each.name: _known(claim, each) for each in found}
    headings = [heading for heading in _headings(claim) if any(heading in line for line in known.values())]
    return [
        ("", *headings),
        *((name, *(_cell(claim, heading, line) for heading in headings)) for name, line in known.items() if line),
    ]


def _headings(claim):
    for heading in claim.columns:
        yield heading
        if heading == OURS:
            yield _DIFFERENCE


def _cell(claim, heading, line):
    if heading not in line:
        return "-"
    if heading.endswith("tasks"):
        return f"{line[heading]:.0f}"
    return ("{:+.1f}" if heading == _DIFFERENCE else claim.form).format(line[heading])


def _measured_table(rows: Rows) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = [
        ("network", "method", "trained weights", "SRAM, B", "flash, B", "G instructions", "time", "J", "this processor")
    ]
    for row in rows:
        counts = [f"{int(row[field]):,}" for field in ("trained_weights", "sram_bytes", "flash_bytes")]
        times = [duration(int(row["cycles"]) / BOARD.clock_hz), f"{float(row['joules']):.2f}", duration(float(row["seconds"]))]
        lines.append((row["network"], METHODS[row["method"]], *counts, f"{int(row['instructions']) / 1e9:.1f}", *times))
    return lines


def _markdown(lines: list[tuple[str, ...]]) -> str:
    head, *rest = lines
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] + ["---:"] * (len(head) - 1), *rest))
