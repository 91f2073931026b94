"""`keras-tinytrain benchmark rungs`: how far to climb. Accuracy of each method beside its seconds, joules and SRAM on a board."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence

from keras_tinytrain._files import write_file
from keras_tinytrain._text import aligned
from keras_tinytrain.benchmark.accuracy_tables import Accuracies
from keras_tinytrain.benchmark.methods import Method, find_method
from keras_tinytrain.benchmark.networks import find_network
from keras_tinytrain.benchmark.results import given_results
from keras_tinytrain.benchmark.rung import NONE, Rung
from keras_tinytrain.benchmark.rungs_cost import Costs, has_cost
from keras_tinytrain.benchmark.rungs_page import rungs_csv, rungs_page, rungs_table
from keras_tinytrain.export import board as find_board

_BASES = {"none": NONE, "full": "FullTrain", "fisher": "chosen channels", "static": "static plan"}
_Row = dict[str, str]


def run(args: argparse.Namespace) -> int:
    """Print the table; write the CSV, the page and the figure. Returns 0.

    Raises:
        ValueError: the results are of no task that all methods share, or the board's time is not known.
        OSError: a file cannot be read or written.
    """
    board, network = find_board(args.board), find_network(args.backbone)
    rows = [row for path in args.accuracy for row in given_results(path, "--accuracy") if row["backbone"] == args.backbone]
    costs = Costs(network, args.domain, args.seed, board)
    found = climb(rows, args.backbone, args.methods, costs)
    write_file(args.out, rungs_csv(found))
    if args.figure:
        from keras_tinytrain.benchmark.rungs_figure import write_rungs_figure

        write_rungs_figure(found, board.name, args.figure)
    if args.page:
        write_file(args.page, rungs_page(found, network, board, args.command_line, args.page, args.figure))
    print(aligned(rungs_table(found, board)))
    return 0


def climb(rows: Sequence[_Row], backbone: str, methods: Sequence[str] | None, costs: Costs) -> list[Rung]:
    """The rungs, the fastest first.

    Args:
        rows: of `benchmark accuracy`, of one backbone.
        methods: which to show; None: all that were run on every task and have a cost. "none" is among them.

    Raises:
        ValueError: rows contradict each other, or there is no method to show.
    """
    known = {key: method for key, method in _methods(rows, backbone).items() if methods is None or key[0] in (*methods, "none")}
    accuracies = Accuracies(_complete(rows, known))
    shown = {key: method for key, method in known.items() if _label(key) in accuracies}
    if ("none", 0) not in shown or len(shown) < 2:
        raise ValueError(
            "--accuracy expects results of benchmark accuracy, with the method none and others on the same tasks. Received methods: "
            f"{', '.join(sorted(map(_label, known))) or 'none that a device can run'}"
        )
    found = [_rung(key, method, accuracies, costs) for key, method in shown.items()]
    return _with_front(sorted(found, key=lambda rung: (rung.seconds, -rung.accuracy)))


def _remark(text):
    print(text, file=sys.stderr)


def _methods(rows: Sequence[_Row], backbone: str) -> dict[tuple[str, int], Method]:
    """{(method, iterations): what it is} of those that a device can run in a time that is known."""
    names = {name: find_method(name, backbone) for name in dict.fromkeys(row["method"] for row in rows)}
    usable = {name: method for name, method in names.items() if has_cost(method)}
    if left_out := names.keys() - usable.keys():
        _remark(f"left out, since their time depends on the samples or no device runs them: {', '.join(sorted(left_out))}.")
    return {
        (row["method"], _iterations(row, usable[row["method"]])): usable[row["method"]]
        for row in rows
        if row["method"] in usable
    }


def _iterations(row: _Row, method: Method) -> int:
    return 0 if method.strategy == "none" else int(row["iterations"])


def _label(key):
    return " ".join(map(str, key))


def _complete(rows: Sequence[_Row], known: Mapping[tuple[str, int], Method]) -> list[_Row]:
    """Rows of the methods that were run on all tasks, each once, under the names of their rungs."""
    by_rung: dict[tuple[str, int], dict[tuple[str, ...], _Row]] = {key: {} for key in known}
    for row in rows:
        key = row["method"], 0 if (row["method"], 0) in known else int(row["iterations"])
        if key not in known:
            continue
        task = tuple(row[field] for field in ("pretrained", "domain", "task", "seed", "episode", "budget"))
        before = by_rung[key].setdefault(task, row)
        if before["accuracy"] != row["accuracy"]:
            raise ValueError(f"--accuracy: {_label(key)} has two results for task {', '.join(task)}. Name one file of them.")
    most = max(map(len, by_rung.values()), default=0)
    if partly := [f"{_label(key)} ({len(tasks)} of {most})" for key, tasks in by_rung.items() if len(tasks) < most]:
        _remark(f"left out, since they were not run on all tasks: {', '.join(partly)}.")
    return [{**row, "method": _label(key)} for key, tasks in by_rung.items() if len(tasks) == most for row in tasks.values()]


def _rung(key: tuple[str, int], method: Method, accuracies: Accuracies, costs: Costs) -> Rung:
    label, (name, iterations) = _label(key), key
    mean, gain = accuracies.mean(label), accuracies.difference(label, _label(("none", 0)))
    return Rung(_name(method, iterations), name, iterations, mean.count, mean.mean, gain, costs.of(method, iterations))


def _name(method: Method, iterations: int) -> str:
    if method.strategy == "none":
        return "closed form alone" if method.ridge else NONE
    base = _BASES.get(method.strategy, "SparseUpdate")
    options = (
        "closed form" if method.ridge else "",
        "late" if method.late_prototypes else "",
        "" if method.average else "not averaged",
    )
    return ", ".join((base, *filter(None, options), str(iterations)))


def _with_front(rungs: list[Rung]) -> list[Rung]:
    best, found = float("-inf"), []
    for rung in rungs:
        found.append(dataclasses.replace(rung, on_front=rung.accuracy > best))
        best = max(best, rung.accuracy)
    return found
