"""The rungs of `benchmark rungs` as a CSV, as a table and as a page in Markdown."""

import csv
import io
import os
import pathlib
from collections.abc import Sequence

import keras_tinytrain
from keras_tinytrain._text import duration, kilobytes
from keras_tinytrain.benchmark.networks import Network
from keras_tinytrain.benchmark.rung import NONE, Rung
from keras_tinytrain.export import Board
from keras_tinytrain.plan import Budget

_PAGE = """# How far to climb

![Accuracy beside the time on the board: a point for each way to learn, and the front that nothing beats in both]({figure})

Written by the command below. keras-tinytrain {version}.

    {command}

Each CSV holds one number of iterations, with the domains and the weights of [accuracy](accuracy.md):

    {accuracy_command}

{table}

{tasks} tasks of {network}, the same for all. A number is that of the iterations; "late" are prototypes of the iteration before. Trained
rungs answer by the trained and the original network together, unless told. Nothing is on the front that another rung beats in less time.
"Chosen channels" are those of the highest Fisher information on the task's samples within {budget}: this
network's budget in the benchmarks, counted as the paper counts, and not the board's.

Time, energy and SRAM are those that an export promises for 25 samples on a {board}, with int8 weights, Adam's second moment by channel,
samples in flash and, where something is trained, 4 views of each, as accuracy was measured (in Keras, in float). Each rung has as much
memory as it takes; "fits" are those within the {available} KB of SRAM that this board leaves free. A plan for a board (`plan --board`)
trains what fits there.

`keras-tinytrain export --time 10s` climbs by iterations: of the plan's own channels it takes the most of 40, 20, 10 and 5 iterations
that fit the time, else the closed form alone, else prototypes alone. It does not choose other channels, and asks for no accuracy.
"""


def rungs_csv(rungs: Sequence[Rung]) -> str:
    """A line for each rung."""
    text = io.StringIO(newline="")
    fields = (
        "rung",
        "method",
        "iterations",
        "tasks",
        "accuracy",
        "minus_none",
        "half",
        "seconds",
        "joules",
        "sram_bytes",
        "on_front",
    )
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    for rung in rungs:
        cost, joules = rung.cost, "" if rung.cost.joules is None else f"{rung.cost.joules:.4f}"
        figures = [f"{value:.4f}" for value in (rung.accuracy, rung.gain.mean, rung.gain.half, cost.seconds)]
        writer.writerow(
            [rung.name, rung.method, rung.iterations, rung.tasks, *figures, joules, cost.sram_bytes, int(rung.on_front)]
        )
    return text.getvalue()


def rungs_table(rungs: Sequence[Rung], board: Board) -> list[tuple[str, ...]]:
    """Headings, then a line for each rung; "fits" tells whether it takes no more SRAM than `board` leaves free."""
    lines: list[tuple[str, ...]] = [
        ("rung", "accuracy %", "minus prototypes", "time on the board", "J", "SRAM, KB", "fits", "on the front")
    ]
    for rung in rungs:
        gain = "" if rung.name == NONE else f"{rung.gain.mean:+.2f} +- {rung.gain.half:.2f}"
        joules = "-" if rung.cost.joules is None else f"{rung.cost.joules:.2f}"
        cells = f"{rung.accuracy:.2f}", gain, duration(rung.seconds), joules, kilobytes(rung.cost.sram_bytes)
        fits = "yes" if rung.cost.sram_bytes <= board.available_sram_bytes else ""
        lines.append((rung.name, *cells, fits, "yes" if rung.on_front else ""))
    return lines


def rungs_page(
    rungs: Sequence[Rung],
    network: Network,
    board: Board,
    command: str,
    page: str | os.PathLike,
    figure: str | os.PathLike | None,
) -> str:
    """In Markdown.

    Args:
        command: the line by which it was asked for.
        page, figure: where both are written.
    """
    rows = rungs_table(rungs, board)
    lines = (rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *(_bold(cells) for cells in rows[1:]))
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    place = os.path.relpath(figure, pathlib.Path(page).parent) if figure else "rungs.png"
    methods = " ".join(dict.fromkeys(rung.method for rung in rungs))
    accuracy_command = f"keras-tinytrain benchmark accuracy --backbone {network.name} --domains ... --methods {methods} --iterations 40 --out forty.csv"
    about = {"version": keras_tinytrain.__version__, "command": command, "network": network.name, "board": board.name}
    limits = {"budget": _in_words(network.budget), "available": kilobytes(board.available_sram_bytes)}
    return _PAGE.format(figure=place, table=table, tasks=rungs[0].tasks, accuracy_command=accuracy_command, **about, **limits)


def _in_words(budget: Budget) -> str:
    compute = budget.compute
    macs = f"{100 * compute:.0f} % of a full backward pass" if compute <= 1 else f"{compute:,.0f} backward MACs a sample"
    return f"{kilobytes(budget.memory_bytes)} KB and {macs}"


def _bold(cells: tuple[str, ...]) -> tuple[str, ...]:
    return (f"**{cells[0]}**", *cells[1:]) if cells[-1] else cells
