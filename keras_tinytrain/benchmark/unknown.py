"""`keras-tinytrain benchmark unknown`: samples of classes that were not learned, told from those that were; resumable."""

import argparse
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from rich.progress import track

from keras_tinytrain._text import aligned
from keras_tinytrain.benchmark.accuracy_tables import Interval
from keras_tinytrain.benchmark.jobs import Settings, row_key
from keras_tinytrain.benchmark.results import KEY, append_results, key, read_results
from keras_tinytrain.benchmark.runner import Runner
from keras_tinytrain.benchmark.tasks import NumberedTask, TaskShape, draw_task
from keras_tinytrain.fewshot.classifier import FewShotClassifier

RATE = 0.05  # of false acceptance
MEASURES = ("cosine", "softmax", "familiarity", "familiarity with negatives")
OTHERS = 10  # classes at most that are not learned: half give samples of no class to learn from, half the queries
FIELDS = (*KEY, "auroc", "accepted", "false_acceptance", "accepted_by_threshold")


@dataclasses.dataclass(frozen=True)
class OpenTask:
    """A task whose queries are of its classes or of none.

    Args:
        known: the support set and queries of its classes.
        negatives: (M, ...), samples of no class to learn from.
        unknown: (U, ...), queries of classes that are neither its own nor the negatives'.
    """

    known: NumberedTask
    negatives: np.ndarray
    unknown: np.ndarray


def run(args: argparse.Namespace) -> int:
    """Run what `args.out` does not hold yet, then print the tables. Returns 0.

    Raises:
        ValueError: a method is unknown, or a domain has fewer than three classes.
        OSError: a file cannot be read or written.
    """
    shape = TaskShape("fixed", args.ways, args.shots, args.queries)
    settings = Settings(args.backbone, args.weights, tuple(args.domains), shape, args.seed)
    runner, path = Runner(settings), pathlib.Path(args.out)
    done = {key(row) for row in read_results(path, FIELDS)}
    wanted = []
    jobs = [(domain, episode) for episode in range(args.episodes) for domain in args.domains]
    for domain, episode in track(jobs, description="tasks"):
        about = {**row_key(settings, domain, episode), "task": f"{shape}, {args.negatives} negatives"}
        for trainer in args.methods:
            rate = settings.method(trainer).learning_rate
            rows = [about | {"method": f"{trainer} {name}", "learning_rate": rate} for name in MEASURES]
            wanted += [key(row) for row in rows]
            if any(key(row) not in done for row in rows):
                task = draw_open_task(runner, domain, episode, args.negatives)
                append_results(path, [a | b for a, b in zip(rows, measure(runner, trainer, task), strict=True)], FIELDS)
    print(report([row for row in read_results(path, FIELDS) if key(row) in set(wanted)]))
    return 0


def draw_open_task(runner: Runner, name: str, episode: int, num_negatives: int) -> OpenTask:
    """Task number `episode` of a domain; of a domain with few classes three in five are learned.

    Raises ValueError where the domain has fewer than three classes, or too few samples.
    """
    settings, domain = runner.settings, runner.domains[name]
    count = len(np.unique(domain.labels))
    ways = min(settings.shape.ways, 3 * count // 5)
    others = min(OTHERS, count - ways)
    if others < 2 or ways < 1:
        raise ValueError(
            f"Domain {name} has {count} classes; three at least are needed: one to learn, two that are not learned."
        )
    shape = dataclasses.replace(settings.shape, ways=ways + others)
    task = draw_task(domain, shape, runner.backbone.input_shape[1:], seed=settings.seed, episode=episode)
    giving = np.flatnonzero((task.support_y >= ways) & (task.support_y < ways + others // 2))
    order = np.random.default_rng([settings.seed, episode]).permutation(giving)[:num_negatives]
    support, query = task.support_y < ways, task.query_y < ways
    known = dataclasses.replace(
        task,
        support_x=task.support_x[support], support_y=task.support_y[support],
        query_x=task.query_x[query], query_y=task.query_y[query],
    )  # fmt: skip
    return OpenTask(known, task.support_x[order], task.query_x[task.query_y >= ways + others // 2])


def measure(runner: Runner, trainer: str, task: OpenTask) -> list[dict]:
    """The figures of each of MEASURES for the network that `trainer` learns."""
    method = runner.settings.method(trainer)
    learned = runner.learn(dataclasses.replace(method, average=0.0, ridge=False), task.known).learned
    if not isinstance(learned, FewShotClassifier):
        raise ValueError(f"benchmark unknown measures classifiers, and {trainer} leaves none.")
    learned.average = method.average
    return [figures(learned, task, name) for name in MEASURES]


def figures(learned: FewShotClassifier, task: OpenTask, name: str) -> dict:
    """How well one of MEASURES tells the known queries from the unknown ones."""
    known, by_threshold = task.known, {}
    if name in ("cosine", "softmax"):
        inside, outside = (_logit_score(learned.logits(x), name) for x in (known.query_x, task.unknown))
        right = learned.predict(known.query_x) == known.query_y
    else:
        negatives = task.negatives if name.endswith("negatives") else None
        learned = learned.with_ridge_head(known.support_x, known.support_y, unknown=negatives)
        inside, outside = (learned.familiarity(x) for x in (known.query_x, task.unknown))
        right = learned.predict(known.query_x) == known.query_y
        if learned.num_classes > 2:
            threshold = learned.reject_unknown(RATE)
            by_threshold = {
                "false_acceptance": np.mean(outside >= threshold),
                "accepted_by_threshold": np.mean(right & (inside >= threshold)),
            }
    accepted = np.mean(right & (inside > np.quantile(outside, 1 - RATE)))
    return {"auroc": auroc(inside, outside), "accepted": accepted, **by_threshold}


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Probability that a score of `inside` exceeds one of `outside`; equal ones count half.

    Example:
        >>> float(auroc([2.0, 3.0], [1.0, 2.0]))
        0.875
    """
    differences = np.subtract.outer(inside, outside)
    return float(np.mean((differences > 0) + 0.5 * (differences == 0)))


def report(rows: Sequence[dict[str, str]]) -> str:
    """A table over all domains, and one of `accepted` by domain."""
    domains, methods = sorted({row["domain"] for row in rows}), list(dict.fromkeys(row["method"] for row in rows))
    whole: list[tuple[str, ...]] = [
        ("told apart by", "tasks", "AUROC", "accepted %", "false %, threshold", "accepted %, threshold")
    ]
    by_domain: list[tuple[str, ...]] = [("accepted %", *domains)]
    for method in methods:
        own = [row for row in rows if row["method"] == method]
        columns = [list(_values(own, field)) for field in FIELDS[len(KEY) :]]
        percent = [str(Interval.of([100 * value for value in values])) for values in columns[1:]]
        whole.append((method, str(len(own)), f"{np.mean(columns[0]):.3f}", *percent))
        places = [_values([row for row in own if row["domain"] == domain], "accepted") for domain in domains]
        by_domain.append((method, *(f"{100 * np.mean(list(values)):.1f}" for values in places)))
    return f"{aligned(whole)}\n\n{aligned(by_domain)}"


def _values(rows: Sequence[dict[str, str]], field: str) -> Iterator[float]:
    return (float(row[field]) for row in rows if row[field] != "")


def _logit_score(logits: np.ndarray, name: str) -> np.ndarray:
    if name == "cosine":
        return logits.max(axis=1)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return 1 / shares.sum(axis=1)
