"""`keras-tinytrain benchmark classes`: what is forgotten of the first classes while others are added one by one; resumable."""

import argparse
import pathlib
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
from rich.progress import track

from keras_tinytrain._text import aligned
from keras_tinytrain.benchmark.accuracy_tables import Interval
from keras_tinytrain.benchmark.jobs import Settings, row_key
from keras_tinytrain.benchmark.results import KEY, append_results, key, read_results
from keras_tinytrain.benchmark.runner import Runner
from keras_tinytrain.benchmark.tasks import NumberedTask, TaskShape, draw_task
from keras_tinytrain.export import Board, TrainingSettings, export_tflm
from keras_tinytrain.fewshot.adaptation import prototype_classifier
from keras_tinytrain.fewshot.classifier import FewShotClassifier
from keras_tinytrain.model.layers import LayerTable
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime

LEARNERS = ("cosine", "ridge", "device")
FIGURES = ("first", "among_first", "all")
FIELDS = (*KEY, *FIGURES)
_ROOMY = Board("any", "any", 1, 2**24, 2**26, flash_page_bytes=4096)


def run(args: argparse.Namespace) -> int:
    """Run what `args.out` does not hold yet, then print the table. Returns 0.

    Raises:
        ValueError: a domain has too few classes or samples.
        OSError: a file cannot be read or written.
    """
    shape = TaskShape("fixed", args.ways + args.additions, args.shots, args.queries)
    runner, path = Runner(Settings(args.backbone, args.weights, tuple(args.domains), shape, args.seed)), pathlib.Path(args.out)
    done = {key(row) for row in read_results(path, FIELDS)}
    wanted = []
    jobs = [(domain, episode) for episode in range(args.episodes) for domain in args.domains]
    for domain, episode in track(jobs, description="tasks"):
        about = {**row_key(runner.settings, domain, episode), "task": f"{shape}, {args.ways} first", "learning_rate": 0.0}
        for learner in args.learners:
            rows = [about | {"method": f"{learner} {added}"} for added in range(args.additions + 1)]
            wanted += [key(row) for row in rows]
            if any(key(row) not in done for row in rows):
                task = draw_task(
                    runner.domains[domain], shape, runner.backbone.input_shape[1:], seed=args.seed, episode=episode
                )
                found = measure(runner, learner, task, args.ways)
                append_results(path, [a | b for a, b in zip(rows, found, strict=True)], FIELDS)
    rows = [row for row in read_results(path, FIELDS) if key(row) in set(wanted)]
    print(report(rows, args.learners, args.additions))
    return 0


def measure(runner: Runner, learner: str, task: NumberedTask, ways: int) -> Iterator[dict[str, float]]:
    """Figures before the first addition and after each, a fraction of 1 each.

    "first": queries of the first classes that are answered right among all classes that are known by then. "among_first": the same
    where only the first classes may be answered, so that a loss is forgetting. "all": queries of all classes that are known.
    """
    known = task.support_y < ways
    x, y = task.support_x[known], task.support_y[known]
    learned = _on_device(runner, task, x, y) if learner == "device" else _in_keras(runner, learner, x, y)
    logits = learned.predict if isinstance(learned, HostRuntime) else learned.logits
    for count in range(ways, int(task.support_y.max()) + 2):
        if count > ways:
            learned.add_class(task.support_x[task.support_y == count - 1])
        asked = task.query_y < count
        yield figures(logits(task.query_x[asked]), task.query_y[asked], ways)


def figures(logits: np.ndarray, labels: np.ndarray, ways: int) -> dict[str, float]:
    """FIGURES of logits (N, K) of queries with labels (N,)."""
    right, first = np.argmax(logits, axis=1) == labels, labels < ways
    among = np.argmax(logits[first, :ways], axis=1) == labels[first]
    return {"first": float(right[first].mean()), "among_first": float(among.mean()), "all": float(right.mean())}


def report(rows: Sequence[dict[str, str]], learners: Sequence[str], additions: int) -> str:
    """A table: for each learner and number of additions, percent with intervals; the last column is the paired change of
    "among_first" since before the first addition, in points: forgetting."""
    lines: list[tuple[str, ...]] = [
        ("learner", "classes added", "tasks", "first %", "among first %", "all %", "forgotten, points")
    ]
    for learner in learners:
        values = [_values(rows, f"{learner} {added}") for added in range(additions + 1)]
        for added in sorted({0, 1, additions // 2, additions}):
            percent = [str(Interval.of(column)) for column in values[added].T]
            change = Interval.of(values[added][:, 1] - values[0][:, 1])
            lines.append((learner, str(added), str(len(values[added])), *percent, str(change)))
    return aligned(lines)


def _values(rows: Sequence[dict[str, str]], method: str) -> np.ndarray:
    """(tasks, figures) in percent, tasks in the rows' order."""
    return 100 * np.array([[float(row[name]) for name in FIGURES] for row in rows if row["method"] == method])


def _in_keras(runner: Runner, learner: str, x: np.ndarray, y: np.ndarray) -> FewShotClassifier:
    learned = prototype_classifier(runner.backbone, x, y)
    return learned.with_ridge_head(x, y) if learner == "ridge" else learned


def _on_device(runner: Runner, task: NumberedTask, x: np.ndarray, y: np.ndarray) -> HostRuntime:
    """The exported network, with its features in flash and room for the whole task; nothing is trained."""
    training = TrainingSettings(num_classes=int(task.support_y.max()) + 1, max_samples=len(task.support_y))
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_tflm(
            runner.backbone,
            Plan((LayerPlan(_last_layer(runner.table), (0,)),)),
            calibration=task.support_x,
            out=pathlib.Path(folder, "bundle"),
            board=_ROOMY,
            head="ridge",
            training=training,
            features="flash",
        )
        host = HostRuntime(bundle)
    host.add_samples(x, y)
    host.solve()
    return host


def _last_layer(table: LayerTable) -> str:
    return next(row.name for row in reversed(table.rows) if row.trainable)
