"""`keras-tinytrain benchmark device`: the exported C++ in int8 beside Keras in float on the same tasks and plans, resumable."""

import argparse
import itertools
import pathlib
import tempfile

import numpy as np
from rich.progress import track

from keras_tinytrain.benchmark.accuracy_tables import Interval
from keras_tinytrain.benchmark.networks import find_network
from keras_tinytrain.benchmark.results import append_results, read_results
from keras_tinytrain.benchmark.tasks import TaskShape, draw_task
from keras_tinytrain.benchmark.text import aligned
from keras_tinytrain.cost import PaperAccounting, num_channels, num_trained_weights
from keras_tinytrain.domains import load_npz
from keras_tinytrain.export import Board, HostRuntime, TrainingSettings, export_tflm
from keras_tinytrain.export.dequantise import dequantised_model
from keras_tinytrain.fewshot.adapt import adapt
from keras_tinytrain.fewshot.augmentation import default_shifts, shift_views
from keras_tinytrain.layers import layer_table

LEARNING_RATE, EPSILON = 3e-3, 1e-7  # of Adam; epsilon is Keras' default
FIELDS = ("backbone", "domain", "episode", "iterations", "weights", "float", "dequantised", "device")
LOSSES = ("losses_dequantised", "losses_device")
_ROOMY = Board("any", "any", 1, 2**24, 2**24)  # the same plan for every board: whether it fits is another question


def run(args: argparse.Namespace) -> int:
    """Run what `args.out` does not hold yet, then print the tables. Returns 0.

    Raises:
        ValueError: a backbone is unknown, or a domain has too few samples.
        OSError: a file cannot be read or written.
        ImportError: tflite-micro or the compiled runtime is not installed.
    """
    path = pathlib.Path(args.out)
    rows, network = read_results(path, FIELDS + LOSSES), find_network(args.backbone)
    done = {(row["backbone"], row["domain"], int(row["episode"]), int(row["iterations"])) for row in rows}
    backbone = network.build(args.weights)
    domains = [load_npz(each, size=None) for each in args.domains]
    work = [
        (domain, episode)
        for domain, episode in itertools.product(domains, range(args.episodes))
        if (args.backbone, domain.name, episode, args.iterations) not in done
    ]
    for domain, episode in track(work, description="episodes"):
        task = draw_task(domain, TaskShape(queries=args.queries), backbone.input_shape[1:], seed=args.seed, episode=episode)
        row = {"backbone": args.backbone, "domain": domain.name, "episode": episode, "iterations": args.iterations}
        row |= run_task(backbone, task, network.budget, args.iterations)
        append_results(path, [row], FIELDS + LOSSES)
        rows.append(row)
    shown = [row for row in rows if row["backbone"] == args.backbone and int(row["iterations"]) == args.iterations]
    print(summary_text(shown))
    return 0


def run_task(backbone, task, budget, iterations) -> dict:
    """Learn one task three times with the same plan.

    "float" is `adapt` on the backbone, "device" the exported C++ over TensorFlow Lite Micro, and "dequantised" `adapt` on the
    backbone with the device's weights, so that to the device only the rounding of what is computed differs.

    Returns:
        Weights that are trained, query accuracy (0..1) of each, and the losses before each iteration of the last two.
    """
    size = task.support_x.shape[1:3]
    options = {"iterations": iterations, "learning_rate": LEARNING_RATE, "shifts": default_shifts(*size)}
    learned = adapt(backbone, task.support_x, task.support_y, budget=budget, accounting=PaperAccounting(), **options)
    with tempfile.TemporaryDirectory() as folder:
        bundle = _export(backbone, learned.plan, task, options, pathlib.Path(folder, "bundle"))
        host = HostRuntime(bundle)
        twin = adapt(dequantised_model(backbone, bundle), task.support_x, task.support_y, plan=learned.plan, **options)
        host.add_samples(task.support_x, task.support_y)
        losses = host.train()
        answers = host.predict(task.query_x).argmax(axis=1)
    return {
        "weights": num_trained_weights(layer_table(backbone), num_channels(learned.plan)),
        "float": float(learned.evaluate(task.query_x, task.query_y)),
        "dequantised": float(twin.evaluate(task.query_x, task.query_y)),
        "device": float(np.mean(answers == task.query_y)),
        "losses_dequantised": _text(twin.losses),
        "losses_device": _text(losses),
    }


def summary_text(rows) -> str:
    """Accuracy by domain and over all, the device's paired difference to float Keras, and how far the loss curves are apart."""
    lines = [("domain", "tasks", "float", "dequantised", "device", "device - float", "loss curves apart by", "at most")]
    domains = sorted({row["domain"] for row in rows})
    for name in [*domains, "all"]:
        own = [row for row in rows if name in (row["domain"], "all")]
        percent = {field: [100 * float(row[field]) for row in own] for field in ("float", "dequantised", "device")}
        apart = [curve_difference(_values(row["losses_device"]), _values(row["losses_dequantised"])) for row in own]
        lines.append((
            name,
            str(len(own)),
            *(f"{np.mean(values):.2f}" for values in percent.values()),
            str(Interval.of(np.subtract(percent["device"], percent["float"]))),
            f"{100 * np.mean([mean for mean, _ in apart]):.2f} %",
            f"{100 * max((largest for _, largest in apart), default=float('nan')):.2f} %",
        ))
    return aligned(lines)


def curve_difference(ours, reference) -> tuple[float, float]:
    """(mean, largest) of |ours_i - reference_i| over the iterations, as shares of the reference's loss before training."""
    ours, reference = np.asarray(ours), np.asarray(reference)
    difference = np.abs(ours - reference) / reference[0]
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
        training=settings,
        views=options["shifts"],
        weights_in_ram="whole",  # what is learned is the same, and `dequantised_model` reads it
    )


def _text(losses):
    return " ".join(f"{loss:.7g}" for loss in losses)


def _values(text):
    return [float(value) for value in text.split()]
