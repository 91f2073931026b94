"""The demo, step by step on handwritten digits: choose, train in Keras, export, train again in the exported C++, compare."""

import contextlib
import json
import pathlib
import tempfile
import time
from collections.abc import Callable

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TimeElapsedColumn

from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.choose import selection
from keras_tinytrain.cli import tables
from keras_tinytrain.cli.demo_report import METHODS, TaskResult, show, summarised
from keras_tinytrain.data import load_digits
from keras_tinytrain.data.episodes import Episode, sample_episode
from keras_tinytrain.delta import Delta
from keras_tinytrain.export import Bundle, TrainingSettings, export_tflm
from keras_tinytrain.export.boards import board as find_board
from keras_tinytrain.fewshot.adaptation import adapt, classifier_from_delta, prototype_classifier
from keras_tinytrain.fewshot.augmentation import shift_views
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import Budget, Plan
from keras_tinytrain.run import HostRuntime

WAYS, SHOTS, ITERATIONS = 5, 5, 40
SHIFTS = ((2, 2), (-2, -2))
LEARNING_RATES = {"last_layer": 3e-3, "full_train": 3e-4, "tiny_train": 3e-3}
STEPS_PER_TASK = 8
NUM_COMPARED = 50  # samples on which the reloaded C++ is compared
Step = Callable[[str], None]  # called with the name of the step that begins
TOLERANCE_POINTS = 3.0  # by how much one task in int8 C++ may differ from float Keras; over 20 tasks the mean stays within 1.5


def run(*, board: str = "nano33ble", num_tasks: int = 1, seed: int = 0, out: str | None = None, as_json: bool = False) -> int:
    """Run the demo on `num_tasks` tasks and print the results.

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
                deltas = pathlib.Path(folder)
                bundle = pathlib.Path(out) if out is not None and task == num_tasks - 1 else deltas / "bundle"
                results.append(_run_task(backbone, episode, board, bundle, deltas, step))
    summary = summarised(backbone, results, time.monotonic() - start)
    if as_json:
        print(json.dumps(summary))
    else:
        show(console, backbone, results[-1], summary)
        if out is not None:
            console.print(f"The bundle is in {out}: see its README.md.")
    return 0 if all(all(result.checks.values()) for result in results) else 1


def _run_task(
    backbone: keras.Model, episode: Episode, board: str, folder: pathlib.Path, deltas: pathlib.Path, step: Step
) -> TaskResult:
    """All steps on one task; the bundle is left in `folder`, what was learned in `deltas`."""
    classifiers = _learn_in_keras(backbone, episode, board, step)
    accuracy = {method: 100 * each.evaluate(episode.query_x, episode.query_y) for method, each in classifiers.items()}
    learned = classifiers["tiny_train"]
    plan = learned.plan
    assert plan is not None  # it trained something

    step("export: int8 models, tables, sketch")
    bundle = export_task(backbone, plan, episode, board, folder)
    step("the bundle's C++ on this machine: learning")
    runtime = HostRuntime(bundle)
    runtime.add_samples(episode.support_x, episode.support_y)
    runtime.train()
    step("the bundle's C++ on this machine: answering")
    logits = runtime.predict(episode.query_x)
    accuracy["runtime"] = 100 * float(np.mean(np.argmax(logits, axis=1) == episode.query_y))

    step("saving and loading what was learned")
    device_delta = deltas / "device.delta"
    runtime.save_delta(device_delta)
    promised, used = tables.flat_bytes(bundle.promised_bytes), tables.flat_bytes(runtime.bytes_used())
    apart = abs(accuracy["runtime"] - accuracy["tiny_train"])
    checks = {
        "promised bytes are the bytes used": used == promised,
        "a fresh copy of the C++ answers the same from the saved delta": _loads_in_cpp(device_delta, folder, episode, logits),
        "a fresh copy in Keras answers the same from the saved delta": _loads_in_keras(backbone, learned, deltas, episode),
        f"C++ within {TOLERANCE_POINTS} points of Keras": apart <= TOLERANCE_POINTS,
    }
    return TaskResult(accuracy, promised, used, device_delta.stat().st_size, bundle.manifest["board"], plan, checks)


def _loads_in_cpp(delta, folder, episode, logits):
    fresh = HostRuntime(Bundle.load(folder))
    fresh.load_delta(delta)
    return np.array_equal(fresh.predict(episode.query_x[:NUM_COMPARED]), logits[:NUM_COMPARED])


def _loads_in_keras(backbone, learned, deltas, episode):
    learned.delta.save(deltas / "keras.delta")
    restored = classifier_from_delta(backbone, Delta.load(deltas / "keras.delta"))
    return np.array_equal(restored.logits(episode.query_x), learned.logits(episode.query_x))


def _learn_in_keras(backbone, episode, board, step):
    """{method: classifier} of the methods that run in Keras."""
    step("prototypes of the untrained network")
    classifiers = {"none": prototype_classifier(backbone, episode.support_x, episode.support_y)}
    table = layer_table(backbone)
    for method, plan in (
        ("last_layer", selection.last_layer_plan(table)),
        ("full_train", selection.full_plan(table)),
        ("tiny_train", None),  # chosen within the budget
    ):
        step(f"{METHODS[method]}: {ITERATIONS} iterations")
        classifiers[method] = adapt(
            backbone,
            episode.support_x,
            episode.support_y,
            plan=plan,
            budget=None if plan else Budget(memory=find_board(board).available_sram_bytes, compute=0.15),
            iterations=ITERATIONS,
            learning_rate=LEARNING_RATES[method],
            shifts=SHIFTS,
        )
    return classifiers


def export_task(backbone: keras.Model, plan: Plan, episode: Episode, board: str, folder: pathlib.Path) -> Bundle:
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


@contextlib.contextmanager
def _progress(console, num_tasks):
    """A bar over all steps of all tasks; the yielded function names the step that begins."""
    columns = (SpinnerColumn(), BarColumn(), TimeElapsedColumn(), "{task.description}")
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=STEPS_PER_TASK * num_tasks, completed=-1)
        yield lambda step: bar.update(task, advance=1, description=step)
