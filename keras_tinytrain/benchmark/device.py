"""`keras-tinytrain benchmark device`: the exported C++ in int8 beside Keras in float on the same tasks and plans, resumable."""

import argparse
import itertools
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from rich.progress import track

from keras_tinytrain._text import aligned
from keras_tinytrain.benchmark.accuracy_tables import Interval
from keras_tinytrain.benchmark.networks import find_network
from keras_tinytrain.benchmark.results import append_results, read_results
from keras_tinytrain.benchmark.tasks import NumberedTask, TaskShape, draw_task
from keras_tinytrain.choose.paper_cost import PaperAccounting, num_channels, num_trained_weights
from keras_tinytrain.data import load_npz
from keras_tinytrain.export import Board, TrainingSettings, export_tflm
from keras_tinytrain.fewshot.adaptation import adapt
from keras_tinytrain.fewshot.augmentation import default_shifts, shift_views
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import Budget
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.dequantise import dequantised_model
from keras_tinytrain.run.on_grid import on_grid_model

LEARNING_RATE, EPSILON = 3e-3, 1e-7  # of Adam; epsilon is Keras' default
WITHIN = 0.02  # how near the device's loss curve is to be
LEARNERS = ("float", "dequantised", "grid", "device")
FIELDS = ("backbone", "head", "domain", "episode", "iterations", "weights", *LEARNERS)
NUM_KEYS = 5  # of FIELDS
HEADS = ("prototypes", "ridge", "auto")
LOSSES = ("losses_dequantised", "losses_grid", "losses_device")
_ROOMY = Board("any", "any", 1, 2**24, 2**24)  # the same plan for every board: whether it fits is another question


def run(args: argparse.Namespace) -> int:
    """Run what `args.out` does not hold yet, then print the tables. Returns 0.

    Raises:
        ValueError: a backbone is unknown, or a domain has too few samples.
        OSError: a file cannot be read or written.
        ImportError: tflite-micro or the compiled runtime is not installed.
    """
    path = pathlib.Path(args.out)
    rows, network = read_results(path, FIELDS + LOSSES, num_keys=NUM_KEYS), find_network(args.backbone)
    iterations = args.iterations if args.iterations or args.head != HEADS[0] else 40
    kind = (args.backbone, args.head, str(iterations or ""))
    rows = [row for row in rows if (row["backbone"], row["head"], row["iterations"]) == kind]
    done = {(row["domain"], int(row["episode"])) for row in rows}
    backbone = network.build(args.weights)
    domains = [load_npz(each, size=None) for each in args.domains]
    work = [
        (domain, episode)
        for domain, episode in itertools.product(domains, range(args.episodes))
        if (domain.name, episode) not in done
    ]
    for domain, episode in track(work, description="episodes"):
        task = draw_task(domain, TaskShape(queries=args.queries), backbone.input_shape[1:], seed=args.seed, episode=episode)
        row = {"backbone": args.backbone, "head": args.head, "domain": domain.name}
        row |= {"episode": episode, "iterations": iterations or ""}
        row |= run_task(backbone, task, network.budget, iterations, args.head)
        append_results(path, [row], FIELDS + LOSSES, num_keys=NUM_KEYS)
        rows.append(row)
    print(summary_text(rows))
    return 0


def run_task(backbone: keras.Model, task: NumberedTask, budget: Budget, iterations: int | None, head: str = HEADS[0]) -> dict:
    """Learn one task four times with the same plan. The head "ridge" is solved after training, as `adapt` and TRAIN do; with "auto"
    both choose. None as iterations: those that the head needs (`device_settings.unsaid`).

    Unless the head is "prototypes" there are no twins, whose layers have other maps, and their figures are "".

    "float" is `adapt` on the backbone, "device" the exported C++ over TensorFlow Lite Micro. Between them are two more runs of
    `adapt`: "dequantised" on the backbone with the device's weights, so that to the device the rounding of activations and of
    weights that move is missing, and "grid", where Keras rounds those, too.

    Returns:
        Weights that are trained, query accuracy (0..1) of each, and the losses before each iteration of the last three.
    """
    size = task.support_x.shape[1:3]
    options: dict[str, Any] = {
        "iterations": iterations,
        "learning_rate": LEARNING_RATE,
        "shifts": default_shifts(*size),
        "head": head,
    }
    learned = adapt(backbone, task.support_x, task.support_y, budget=budget, accounting=PaperAccounting(), **options)
    plan = learned.plan
    assert plan is not None  # it trained something
    with tempfile.TemporaryDirectory() as folder:
        bundle = _export(backbone, plan, task, options, pathlib.Path(folder, "bundle"))
        kinds = (dequantised_model, on_grid_model) if head == HEADS[0] else ()
        twins = [adapt(twin(backbone, bundle), task.support_x, task.support_y, plan=plan, **options) for twin in kinds]
        host = HostRuntime(bundle)
        host.add_samples(task.support_x, task.support_y)
        losses = host.train()
        answers = host.predict(task.query_x).argmax(axis=1)
    accuracies = [float(each.evaluate(task.query_x, task.query_y)) for each in (learned, *twins)]
    missing = [""] * (len(LEARNERS) - 2 - len(twins))
    return {
        "weights": num_trained_weights(layer_table(backbone), num_channels(plan)),
        **dict(zip(LEARNERS, [*accuracies, *missing, float(np.mean(answers == task.query_y))], strict=True)),
        **dict(zip(LOSSES, [*(_text(twin.losses) for twin in twins), *missing, _text(losses)], strict=True)),
    }


def summary_text(rows: Sequence[Mapping]) -> str:
    """A table of accuracy by domain and over all, and the device's paired difference to float Keras.

    The distance of its loss curves from both others follows: the mean, the largest, and the number of tasks on which no
    iteration is more than 2 % away.
    """
    curves = [f"{name}: {what}" for name in ("dequantised", "grid") for what in ("apart by", "at most", "within 2 %")]
    lines = [("domain", "tasks", *LEARNERS, "device - float", *curves)]
    domains = sorted({row["domain"] for row in rows})
    for name in [*domains, "all"]:
        own = [row for row in rows if name in (row["domain"], "all")]
        percent = {field: [100 * float(row[field]) for row in own if row[field] != ""] for field in LEARNERS}
        lines.append(
            (
                name,
                str(len(own)),
                *(f"{np.mean(values):.2f}" if values else "" for values in percent.values()),
                str(Interval.of(np.subtract(percent["device"], percent["float"]))),
                *(text for reference in LOSSES[:2] for text in _apart(own, reference)),
            )
        )
    return aligned(lines)


def _apart(rows, reference):
    if any(row[reference] == "" for row in rows):
        return "", "", ""
    apart = [curve_difference(_values(row["losses_device"]), _values(row[reference])) for row in rows] or [(np.nan, np.nan)]
    means, largest = np.transpose(apart)
    return f"{100 * means.mean():.2f} %", f"{100 * largest.max():.2f} %", f"{np.sum(largest <= WITHIN)}/{len(rows)}"


def curve_difference(ours: Sequence[float] | np.ndarray, reference: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """(mean, largest) over the iterations of |ours_i - reference_i| / max(reference_i, reference_0 / 10).

    A share of the reference's loss at that iteration or, once that is below a tenth of its first loss, of this tenth.
    """
    ours, reference = np.asarray(ours), np.asarray(reference)
    difference = np.abs(ours - reference) / np.maximum(reference, reference[0] / 10)
    return float(np.mean(difference)), float(np.max(difference))


def _export(backbone, plan, task, options, folder):
    settings = TrainingSettings(
        learning_rate=options["learning_rate"],
        epsilon=EPSILON,
        iterations=options["iterations"],
        num_classes=int(np.max(task.support_y)) + 1,
        max_samples=len(task.support_x),
    )
    samples = np.concatenate([task.support_x, *shift_views(task.support_x, options["shifts"])])
    return export_tflm(
        backbone,
        plan,
        calibration=samples,
        out=folder,
        board=_ROOMY,
        head=options.get("head"),
        training=settings,
        views=options["shifts"],
        weights_in_ram="whole",  # it learns the same, and `dequantised_model` reads it
    )


def _text(losses):
    return " ".join(f"{loss:.7g}" for loss in losses)


def _values(text):
    return [float(value) for value in text.split()]
