"""The demo's results: as one JSON object, and as a table and a picture for people."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from rich.console import Console

from keras_tinytrain._text import aligned, duration, kilobytes
from keras_tinytrain.choose import paper_cost, selection
from keras_tinytrain.cli.demo_settings import METHODS, DemoSettings
from keras_tinytrain.cli.demo_task import TaskResult, accounting_of
from keras_tinytrain.cli.report import page
from keras_tinytrain.cli.report.content import Values, board_values, bundle_values, confusion, learning_values, plan_values
from keras_tinytrain.cli.shades import side_by_side
from keras_tinytrain.cli.tables import flat_bytes, memory_in_words
from keras_tinytrain.model.layers import LayerTable, layer_table
from keras_tinytrain.run.board_time import seconds_by_part

TOLERANCE_POINTS = 3.0  # by how much one task in int8 C++ may differ from float Keras; over 20 tasks the mean stays within 1.5
_NUM_PICTURES, _NUM_REPORTED = 4, 8
_NEXT = """\
Next, with a model and labelled samples of your own:
  keras-tinytrain profile model.keras
  keras-tinytrain plan model.keras --samples task.npz --out plan.json"""


@dataclasses.dataclass(frozen=True, eq=False)
class Demo:
    """All tasks of a demo.

    Args:
        no_board: why no board was emulated; None where one was.
        seconds: that all of it took.
    """

    settings: DemoSettings
    backbone: keras.Model
    results: list[TaskResult]
    no_board: str | None
    seconds: float

    @functools.cached_property
    def accuracy_percent(self) -> dict[str, list[float]]:
        """By method, of each task; methods that ran, in the order of METHODS."""
        ran = [name for name in METHODS if name in self.results[0].answers]
        return {name: [each.accuracy_percent(name) for each in self.results] for name in ran}

    def gain(self, method: str) -> tuple[float, float]:
        """Points that a method gains, and half of the 95 % interval of their mean (Student's t); nan for one task."""
        return mean_difference(self.accuracy_percent[method], self.accuracy_percent["none"])

    @functools.cached_property
    def table(self) -> LayerTable:
        """The network's layers."""
        return layer_table(self.backbone)

    @functools.cached_property
    def training_bytes(self) -> dict[str, int]:
        """SRAM in which the board trains, by method: promised of what was exported, estimated of the others."""
        last = self.results[-1]
        promised = last.bundle.promised_bytes["sram"]["total"]
        found: dict[str, int] = {name: promised for name in ("tiny_train", "runtime", "board") if name in self.accuracy_percent}
        for name, plan in (("last_layer", selection.last_layer_plan), ("full_train", selection.full_plan)):
            choice = paper_cost.num_channels(plan(self.table))
            found[name] = accounting_of(last.exported.device).memory_bytes(self.table, choice)
        return found

    @functools.cached_property
    def checks(self) -> dict[str, bool]:
        """Each step, and whether it held on every task."""
        found = {name: all(each.checks[name] for each in self.results) for name in self.results[0].checks}
        pairs = zip(self.accuracy_percent["runtime"], self.accuracy_percent["tiny_train"], strict=True)
        found[f"C++ within {TOLERANCE_POINTS} points of Keras"] = all(abs(one - two) <= TOLERANCE_POINTS for one, two in pairs)
        return found

    def to_json(self) -> dict[str, Any]:
        """The object that --json prints: means over the tasks, bytes of the last."""
        last, choice = self.results[-1], paper_cost.num_channels(self.results[-1].plan)
        gains = {name: self.gain(name) for name in self.accuracy_percent if name != "none"}
        figures = {
            "accuracy_percent": {name: round(float(np.mean(each)), 2) for name, each in self.accuracy_percent.items()},
            "gain_points": {name: [_rounded(number) for number in gain] for name, gain in gains.items()},
            "tasks": len(self.results),
            "plan": {
                "layers": len(choice),
                "channels": sum(choice.values()),
                "weights": paper_cost.num_trained_weights(self.table, choice),
                "backward_macs": paper_cost.backward_macs(self.table, choice),
            },
            "training_bytes": self.training_bytes,
            "bytes_promised": flat_bytes(last.bundle.promised_bytes),
            "bytes_used": flat_bytes(last.host.bytes_used),
            "delta_bytes": len(last.host.delta),
            "seconds": round(self.seconds, 1),
            "checks": {name: bool(held) for name, held in self.checks.items()},
        }
        return figures | ({} if self.board_seconds is None else {"board_seconds": round(self.board_seconds, 1)})

    @property
    def board_seconds(self) -> float | None:
        """Time of one task on the board, as a mean, an estimate; None where none was emulated."""
        board, boards = self.results[-1].bundle.manifest["board"], [each.board for each in self.results if each.board]
        return float(np.mean([seconds_by_part(each, board)["total"] for each in boards])) if boards else None


def mean_difference(after: Sequence[float], before: Sequence[float]) -> tuple[float, float]:
    """Mean of paired differences, and half of its 95 % interval by Student's t; nan for a single pair."""
    differences = np.subtract(after, before)
    if len(differences) < 2:
        return float(differences.mean()), math.nan
    from scipy import stats  # which scikit-learn brings

    error = differences.std(ddof=1) / math.sqrt(len(differences))
    return float(differences.mean()), float(stats.t.ppf(0.975, len(differences) - 1) * error)


def _rounded(number):
    return None if math.isnan(number) else round(number, 2)


def show(console: Console, demo: Demo) -> None:
    """Print what came out: a table, a picture, the board's figures, the command to type next."""
    parts = [_task_in_words(demo), accuracy_table(demo)]
    if demo.settings.by_camera:
        parts.append(picture(demo.results[-1]))
    parts.append("\n".join(_on_the_board(demo)))
    console.print("\n\n".join(parts), highlight=False, markup=False, soft_wrap=True)
    failed = [name for name, held in demo.checks.items() if not held]
    for name in failed:
        console.print(f"[red]FAILED[/] {name}")
    if not failed:
        console.print(f"All {len(demo.checks)} checks held, in {duration(demo.seconds)}.", highlight=False)
    console.print(_NEXT, highlight=False, markup=False)


def _task_in_words(demo):
    settings, num_queries = demo.settings, len(demo.results[0].episode.query_y)
    seen = "in uneven light, by a noisy camera" if settings.by_camera else "scanned cleanly"
    num_tasks = f"{len(demo.results)} task{'s' if len(demo.results) > 1 else ''}"
    return (
        f"A network trained on letters meets digits, {seen}.\n"
        f"{num_tasks}: {settings.ways} classes, {settings.shots} samples of each to learn, {num_queries} others to answer."
    )


def accuracy_table(demo: Demo) -> str:
    """A line a method: accuracy, gain with its interval, memory and whether the board has it."""
    available = demo.results[-1].bundle.manifest["board"]["sram_bytes"]
    rows = [("", "right %", "gain, 95 %", "SRAM to train", "fits")]
    for method, values in demo.accuracy_percent.items():
        mean, half = demo.gain(method)
        gain = "" if method == "none" else f"{mean:+.1f}" + ("" if math.isnan(half) else f" ± {half:.1f}")
        needs = demo.training_bytes.get(method)
        memory = ("-", "-") if needs is None else (f"{kilobytes(needs)} KB", "yes" if needs <= available else "no")
        rows.append((METHODS[method], f"{np.mean(values):.1f}", gain, *memory))
    return aligned(rows)


def picture(result: TaskResult) -> str:
    """Digits as the device sees them, of those whose answer learning changed, and both answers."""
    told, shown = _changed(result, _NUM_PICTURES)
    captions = [(f"a {truth}, before: {before}", f"after:     {after}") for _, truth, before, after in shown]
    return "\n".join([told, side_by_side([image for image, *_ in shown], captions)]) if shown else told


def _changed(result, most):
    """(a sentence, [(image, class, answer before, answer after)]) of answers that learning changed, spread over all of them."""
    episode, before, after = result.episode, result.answers["none"], result.answers["runtime"]
    changed = np.flatnonzero(before != after)
    better, worse = (int(np.sum(answers[changed] == episode.query_y[changed])) for answers in (after, before))
    told = f"Learning changed {len(changed)} of {len(before)} answers of the last task, {better} to right, {worse} to wrong:"
    shown = changed[np.linspace(0, len(changed) - 1, min(most, len(changed))).astype(int)]
    return told, [
        (episode.query_x[query], *(str(episode.classes[answers[query]]) for answers in (episode.query_y, before, after)))
        for query in shown
    ]


def _on_the_board(demo):
    last = demo.results[-1]
    board, promised = last.bundle.manifest["board"], last.bundle.promised_bytes
    if demo.board_seconds is not None:
        yield f"On board {board['name']} a task takes {duration(demo.board_seconds)}, an estimate."
    else:
        yield f"No board was emulated: {demo.no_board}"
    sram, flash = (memory_in_words(promised[part]["total"], board[f"{part}_bytes"]) for part in ("sram", "flash"))
    yield f"It takes {sram} SRAM and {flash} flash, and learns {len(last.host.delta):,} bytes."


def report_values(demo: Demo, command: str) -> Values:
    """The values of the demo's report: accuracies of all tasks, all else of the last one."""
    last = demo.results[-1]
    told, shown = _changed(last, _NUM_REPORTED)
    order = np.argsort(last.episode.classes)
    counts = {
        when: confusion(last.episode.query_y, last.answers[method], demo.settings.ways)[order][:, order]
        for when, method in (("before", "none"), ("after", "runtime"))
    }
    values = bundle_values(last.bundle, command) | plan_values(last.plan) | learning_values(last.host.losses, counts)
    if last.board:
        values |= board_values(last.board, last.bundle.manifest["board"])
    return values | {
        "title": "Handwritten digits, learned on a board",
        "summary": _task_in_words(demo),
        "class_names": [str(last.episode.classes[label]) for label in order],
        "accuracy": [_reported(demo, method) for method in demo.accuracy_percent],
        "pictures": {"told": told, "shown": [_pictured(*each) for each in shown]},
        "commands": {"made by": [command], "next, with a model of your own": [line.strip() for line in _NEXT.splitlines()[1:]]},
        "checks": {name: bool(held) for name, held in demo.checks.items()},
    }


def _pictured(image, truth, before, after):
    return {"image": page.picture(image), "truth": truth, "before": before, "after": after}


def _reported(demo, method):
    gain, half = (None, None) if method == "none" else map(_rounded, demo.gain(method))
    needs, available = demo.training_bytes.get(method), demo.results[-1].bundle.manifest["board"]["sram_bytes"]
    percent = float(np.mean(demo.accuracy_percent[method]))
    found = {"method": METHODS[method], "percent": percent, "gain": gain, "half": half, "sram_bytes": needs}
    return found | {"fits": needs is None or needs <= available}
