"""The whole road on handwritten digits: choose, train in Keras, export, train again in the exported C++, compare."""

import contextlib
import dataclasses
import json
import pathlib
import shutil
import tempfile
import time

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TimeElapsedColumn

from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.choose import paper_cost, selection
from keras_tinytrain.cli import tables
from keras_tinytrain.data import load_digits
from keras_tinytrain.data.episodes import Episode, sample_episode
from keras_tinytrain.delta import Delta
from keras_tinytrain.export import Bundle, TrainingSettings, export_tflm
from keras_tinytrain.export.boards import board as find_board
from keras_tinytrain.fewshot.adaptation import FewShotClassifier, adapt, classifier_from_delta, prototype_classifier
from keras_tinytrain.fewshot.augmentation import shift_views
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import Budget
from keras_tinytrain.run import HostRuntime

WAYS, SHOTS, ITERATIONS = 5, 5, 40
SHIFTS = ((2, 2), (-2, -2))
LEARNING_RATES = {"last_layer": 3e-3, "full_train": 3e-4, "tiny_train": 3e-3}
METHODS = {
    "none": "None (prototypes only)",
    "last_layer": "LastLayer",
    "full_train": "FullTrain",
    "tiny_train": "TinyTrain in Keras",
    "runtime": "TinyTrain in C++",
}
STEPS_PER_TASK = 8
NUM_COMPARED = 50  # samples on which the reloaded C++ is compared
TOLERANCE_POINTS = 3.0  # by how much one task in int8 C++ may differ from float Keras; over 20 tasks the mean stays within 1.5


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """One task: accuracies in percent by method, bytes by part, and the steps that held or did not."""

    accuracy_percent: dict[str, float]
    bytes_promised: dict[str, int]
    bytes_used: dict[str, int]
    delta_bytes: int
    classifier: FewShotClassifier
    checks: dict[str, bool]


def run(*, board: str = "nano33ble", num_tasks: int = 1, seed: int = 0, out: str | None = None, as_json: bool = False) -> int:
    """Run the demo on `num_tasks` tasks and print what came of it.

    Args:
        board: name of the board whose SRAM is the memory budget.
        num_tasks: tasks; figures are means over them.
        seed: of the tasks.
        out: folder in which the bundle of the last task is kept.
        as_json: print one JSON object to standard output, and everything else to standard error.

    Returns:
        0 where every step held on every task, else 1.
    """
    start = time.monotonic()
    if out is not None and pathlib.Path(out).exists():
        raise ValueError(f"{out} exists already. Name a folder that does not, or remove it.")
    console = Console(stderr=as_json)
    backbone, digits = NanoNet(), load_digits()
    results = []
    with _progress(console, num_tasks) as step:
        for task in range(num_tasks):
            episode = sample_episode(digits, ways=WAYS, shots=SHOTS, rng=np.random.default_rng([seed, task]))
            with tempfile.TemporaryDirectory() as folder:
                bundle = pathlib.Path(folder) / "bundle"
                results.append(_run_task(backbone, episode, board, bundle, step))
                if out is not None and task == num_tasks - 1:
                    shutil.copytree(bundle, out)
    summary = _summary(backbone, results, time.monotonic() - start)
    if as_json:
        print(json.dumps(summary))
    else:
        _show(console, backbone, results, summary, out)
    return 0 if all(all(result.checks.values()) for result in results) else 1


def _run_task(backbone, episode: Episode, board, folder, step) -> TaskResult:
    """All steps on one task; the bundle is left in `folder`."""
    classifiers = _learn_in_keras(backbone, episode, board, step)
    accuracy = {method: 100 * each.evaluate(episode.query_x, episode.query_y) for method, each in classifiers.items()}
    learned = classifiers["tiny_train"]

    step("export: int8 models, tables, sketch")
    bundle = export_task(backbone, learned.plan, episode, board, folder)
    step("the bundle's C++ on this machine: learning")
    runtime = HostRuntime(bundle)
    runtime.add_samples(episode.support_x, episode.support_y)
    runtime.train()
    step("the bundle's C++ on this machine: answering")
    logits = runtime.predict(episode.query_x)
    accuracy["runtime"] = 100 * float(np.mean(np.argmax(logits, axis=1) == episode.query_y))

    step("saving and loading what was learned")
    device_delta, keras_delta = folder.parent / "device.delta", folder.parent / "keras.delta"
    runtime.save_delta(device_delta)
    fresh = HostRuntime(Bundle.load(folder))
    fresh.load_delta(device_delta)
    learned.delta.save(keras_delta)
    restored = classifier_from_delta(backbone, Delta.load(keras_delta))
    promised, used = tables.flat_bytes(bundle.promised_bytes), tables.flat_bytes(runtime.bytes_used())
    some = episode.query_x[:NUM_COMPARED]
    return TaskResult(
        accuracy_percent=accuracy,
        bytes_promised=promised,
        bytes_used=used,
        delta_bytes=device_delta.stat().st_size,
        classifier=learned,
        checks={
            "promised bytes are the bytes used": used == promised,
            "a fresh copy of the C++ answers the same from the saved delta": np.array_equal(
                fresh.predict(some), logits[: len(some)]
            ),
            "a fresh copy in Keras answers the same from the saved delta": np.array_equal(
                restored.logits(episode.query_x), learned.logits(episode.query_x)
            ),
            f"C++ within {TOLERANCE_POINTS} points of Keras": abs(accuracy["runtime"] - accuracy["tiny_train"])
            <= TOLERANCE_POINTS,
        },
    )


def _learn_in_keras(backbone, episode, board, step):
    """{method: classifier} of the methods that run in Keras."""
    step("prototypes of the untrained network")
    classifiers = {"none": prototype_classifier(backbone, episode.support_x, episode.support_y)}
    table, budget = layer_table(backbone), Budget(memory=find_board(board).available_sram_bytes, compute=0.15)
    for method, how in (
        ("last_layer", {"plan": selection.last_layer_plan(table)}),
        ("full_train", {"plan": selection.full_plan(table)}),
        ("tiny_train", {"budget": budget}),
    ):
        step(f"{METHODS[method]}: {ITERATIONS} iterations")
        options = {"iterations": ITERATIONS, "learning_rate": LEARNING_RATES[method], "shifts": SHIFTS}
        classifiers[method] = adapt(backbone, episode.support_x, episode.support_y, **how, **options)
    return classifiers


def export_task(backbone, plan, episode, board, folder):
    """Export a task with the demo's views and training."""
    views = shift_views(episode.support_x, SHIFTS)
    settings = TrainingSettings(
        optimizer="adam",
        learning_rate=LEARNING_RATES["tiny_train"],
        iterations=ITERATIONS,
        num_classes=WAYS,
        max_samples=WAYS * SHOTS,
    )
    samples = np.concatenate([episode.support_x, *views])
    return export_tflm(backbone, plan, calibration=samples, out=folder, board=board, training=settings, views=SHIFTS)


def _summary(backbone, results, seconds):
    last = results[-1]
    choice, table = paper_cost.num_channels(last.classifier.plan), layer_table(backbone)
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


def _show(console, backbone, results, summary, out):
    last, table = results[-1], layer_table(backbone)
    plans = {
        "last_layer": selection.last_layer_plan(table),
        "full_train": selection.full_plan(table),
        "tiny_train": last.classifier.plan,
        "runtime": last.classifier.plan,
    }
    choices = {method: paper_cost.num_channels(plan) for method, plan in plans.items()}
    console.print(tables.plan_table(last.classifier.plan))
    console.print(tables.bytes_table(last.bytes_promised, last.bytes_used))
    console.print(
        tables.accuracy_table(
            {
                label: (
                    summary["accuracy_percent"][method],
                    paper_cost.num_trained_weights(table, choices.get(method, {})),
                    paper_cost.backward_macs(table, choices[method]) if method in choices else 0,
                )
                for method, label in METHODS.items()
            }
        )
    )
    console.print(f"Learned in {last.delta_bytes:,} bytes. {summary['tasks']} task(s) in {summary['seconds']} s.")
    for name, held in summary["checks"].items():
        console.print(f"[green]held[/]   {name}" if held else f"[red]FAILED[/] {name}")
    if out is not None:
        console.print(f"The bundle is in {out}: see its README.md.")


@contextlib.contextmanager
def _progress(console, num_tasks):
    """A bar over all steps of all tasks; the yielded function names the step that begins."""
    columns = (SpinnerColumn(), BarColumn(), TimeElapsedColumn(), "{task.description}")
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=STEPS_PER_TASK * num_tasks, completed=-1)
        yield lambda step: bar.update(task, advance=1, description=step)
