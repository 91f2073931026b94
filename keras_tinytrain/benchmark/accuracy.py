"""`keras-tinytrain benchmark accuracy`: methods side by side on the same few-shot tasks, resumable, with paired differences."""

import argparse
import pathlib

from rich.progress import track

from keras_tinytrain.benchmark import engines
from keras_tinytrain.benchmark.accuracy_tables import report
from keras_tinytrain.benchmark.jobs import Settings, open_jobs, row_keys
from keras_tinytrain.benchmark.networks import find_network
from keras_tinytrain.benchmark.results import append_results, key, read_results
from keras_tinytrain.benchmark.tasks import TaskShape
from keras_tinytrain.plan import Budget


def run(args: argparse.Namespace) -> int:
    """Run what `args.out` does not hold yet, then print the tables and draw the figure. Returns 0.

    Raises:
        ValueError: a method or backbone is unknown, or a domain has too few samples.
        OSError: a file cannot be read or written.
    """
    settings = settings_from(args)
    path = pathlib.Path(args.out)
    done = {key(row) for row in read_results(path)}
    jobs = list(open_jobs(settings, args.methods, args.episodes, done))
    if jobs:
        for rows in track(_run_jobs(args, settings, jobs), total=len(jobs), description="tasks"):
            append_results(path, rows)
    wanted = {each for job in open_jobs(settings, args.methods, args.episodes, set()) for each in row_keys(settings, job)}
    shown = [row for row in read_results(path) if key(row) in wanted]
    print(report(shown, args.methods, args.compare))
    if args.figure:
        from keras_tinytrain.benchmark.accuracy_figure import write_accuracy_figure

        write_accuracy_figure(shown, args.methods, args.compare[0], args.figure)
    return 0


def settings_from(args: argparse.Namespace) -> Settings:
    """The settings of a command line; raises ValueError for names that are not known, before anything runs."""
    find_network(args.backbone)
    if (args.memory is None) != (args.compute is None):
        raise ValueError("--memory and --compute are given together, or neither for the paper's budget.")
    settings = Settings(
        backbone=args.backbone,
        weights=args.weights,
        domains=tuple(args.domains),
        shape=TaskShape(args.sampler, args.ways, args.shots, args.queries),
        seed=args.seed,
        iterations=args.iterations,
        budget=None if args.memory is None else Budget(args.memory, args.compute),
        learning_rates=tuple(map(parse_rate, args.learning_rate)),
    )
    for name in [*args.methods, *dict(settings.learning_rates)]:
        settings.method(name)
    return settings


def _run_jobs(args, settings, jobs):
    if args.engine == "ray":
        return engines.run_ray(settings, jobs, address=args.ray_address)
    return engines.run_local(settings, jobs)


def parse_rate(text: str) -> tuple[str, float]:
    """("tinytrain", 0.001) of "tinytrain=1e-3"."""
    name, _, rate = text.partition("=")
    try:
        return name, float(rate)
    except ValueError as error:
        raise ValueError(f"--learning-rate expects METHOD=RATE, such as tinytrain=1e-3. Received: {text!r}") from error
