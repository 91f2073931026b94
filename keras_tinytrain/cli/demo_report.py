"""The demo's results: as one JSON object, and as tables."""

import dataclasses

import keras
import numpy as np
from rich.console import Console

from keras_tinytrain._text import duration
from keras_tinytrain.choose import paper_cost, selection
from keras_tinytrain.cli import tables
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import Plan

METHODS = {
    "none": "None (prototypes only)",
    "last_layer": "LastLayer",
    "full_train": "FullTrain",
    "tiny_train": "TinyTrain in Keras",
    "runtime": "TinyTrain in C++",
}


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """One task: accuracies in percent by method, bytes by part, the bundle's board, and the steps that held or did not."""

    accuracy_percent: dict[str, float]
    bytes_promised: dict[str, int]
    bytes_used: dict[str, int]
    delta_bytes: int
    board: dict
    plan: Plan
    checks: dict[str, bool]


def summarised(backbone: keras.Model, results: list[TaskResult], seconds: float) -> dict:
    """The object that the demo prints with --json: means over the tasks, bytes of the last."""
    last = results[-1]
    choice, table = paper_cost.num_channels(last.plan), layer_table(backbone)
    return {
        "accuracy_percent": {
            method: round(float(np.mean([result.accuracy_percent[method] for result in results])), 2) for method in METHODS
        },
        "tasks": len(results),
        "plan": {
            "layers": len(choice),
            "channels": sum(choice.values()),
            "weights": paper_cost.num_trained_weights(table, choice),
            "backward_macs": paper_cost.backward_macs(table, choice),
        },
        "bytes_promised": last.bytes_promised,
        "bytes_used": last.bytes_used,
        "delta_bytes": last.delta_bytes,
        "seconds": round(seconds, 1),
        "checks": {name: bool(all(result.checks[name] for result in results)) for name in last.checks},
    }


def show(console: Console, backbone: keras.Model, last: TaskResult, summary: dict) -> None:
    """Print the summary as tables, with the plan and the bytes of the last task."""
    console.print(tables.plan_table(last.plan))
    console.print(tables.bytes_table(last.bytes_promised, last.bytes_used))
    console.print(tables.memory_bars(last.bytes_used["total"], last.bytes_used["flash_total"], last.board))
    console.print(tables.accuracy_table(_accuracies(backbone, last, summary["accuracy_percent"])))
    took = duration(summary["seconds"])
    console.print(f"Learned in {last.delta_bytes:,} bytes. {summary['tasks']} task(s) in {took}.")
    for name, held in summary["checks"].items():
        console.print(f"[green]held[/]   {name}" if held else f"[red]FAILED[/] {name}")


def _accuracies(backbone, last, percent):
    """{method in words: (accuracy, trained weights, backward MACs)}."""
    table = layer_table(backbone)
    plans = {
        "last_layer": selection.last_layer_plan(table),
        "full_train": selection.full_plan(table),
        "tiny_train": last.plan,
        "runtime": last.plan,
    }
    rows = {}
    for method, label in METHODS.items():
        choice = paper_cost.num_channels(plans[method]) if method in plans else {}
        macs = paper_cost.backward_macs(table, choice) if choice else 0
        rows[label] = (percent[method], paper_cost.num_trained_weights(table, choice), macs)
    return rows
