"""`keras-tinytrain benchmark fit`: ordinary transfer learning by several methods, resumable, with paired differences."""

import argparse
import dataclasses
import functools
import json
import pathlib
from collections.abc import Sequence
from concurrent import futures

from rich.progress import track

from keras_tinytrain._text import aligned, duration
from keras_tinytrain.benchmark import allocator
from keras_tinytrain.benchmark.accuracy import parse_rate
from keras_tinytrain.benchmark.accuracy_tables import Accuracies, accuracy_table, domain_table, shared_tasks
from keras_tinytrain.benchmark.fit_methods import METHODS, find_fit_method
from keras_tinytrain.benchmark.fit_runner import Fit, run_fit
from keras_tinytrain.benchmark.jobs import Settings, row_key
from keras_tinytrain.benchmark.results import KEY, append_results, key, read_results

FIELDS = (*KEY, "accuracy", "trained_weights", "seconds", "peak_bytes")
CHOICE_SEED = 100  # of the splits on which rates are compared


def run(args: argparse.Namespace) -> int:
    """Run what `args.out` does not hold yet, then print the tables and draw the figure.

    Returns:
        0; 1 where a training failed, or a budget was refused: the reason is printed, and the other trainings run.

    Raises:
        ValueError: a method is unknown.
        OSError: the file of results cannot be read or written.
    """
    fits, path = planned_fits(args), pathlib.Path(args.out)
    done = {key(row) for row in read_results(path, FIELDS)}
    missing = [fit for fit in fits if key(about(fit)) not in done]
    with futures.ThreadPoolExecutor(args.jobs) as pool:
        running = pool.map(functools.partial(run_into, path), missing)
        reasons = list(track(running, total=len(missing), description="fits", disable=not missing))
    wanted = {key(about(fit)) for fit in fits}
    rows = [row for row in read_results(path, FIELDS) if key(row) in wanted]
    methods = args.methods or list(METHODS)
    print(rate_table(rows, methods) if args.choose_rates else report(rows, methods))
    if args.figure:
        from keras_tinytrain.benchmark.fit_figure import write_fit_figure

        write_fit_figure(rows, methods, args.figure)
    for reason in dict.fromkeys(filter(None, reasons)):
        print(f"\nnot run: {reason}")
    return int(any(reasons))


def planned_fits(args: argparse.Namespace) -> list[Fit]:
    """The trainings of a command line, so that one that is cut off has all methods of the first seeds."""
    rates, fits = dict(map(parse_rate, args.learning_rate)), []
    methods = [find_fit_method(name) for name in args.methods or METHODS]
    for seed in [CHOICE_SEED] if args.choose_rates else args.seeds:
        for domain in args.domains:
            for method in methods:
                for rate in method.rates if args.choose_rates else [rates.get(method.name, method.learning_rate)]:
                    job = args.backbone, args.weights, domain, seed, method.name, rate, args.epochs, args.batch_size
                    fits.append(Fit(*job))
    return fits


def about(fit: Fit) -> dict:
    """The fields that identify a row."""
    settings = Settings(fit.backbone, fit.weights, (fit.domain,), seed=fit.seed, iterations=fit.epochs)
    row = row_key(settings, fit.domain, 0)
    budget = find_fit_method(fit.method).budget
    limits = f"{budget.memory_bytes} B {budget.compute:g}" if budget else ""
    return {
        **row,
        "task": f"fit, batches of {fit.batch_size}",
        "budget": limits,
        "method": fit.method,
        "learning_rate": fit.learning_rate,
    }


def run_into(path: pathlib.Path, fit: Fit) -> str:
    """Add the row of one training to the results in `path`. Returns why there is none, or ""."""
    try:
        result = run_elsewhere(fit)
    except OSError as error:
        return str(error)
    append_results(path, [{**about(fit), **result}], FIELDS)
    return ""


def run_elsewhere(fit: Fit) -> dict:
    """`run_fit` in a process of its own, whose allocator counts every byte."""
    code = f"import json, sys; from {run_fit.__module__} import Fit, run_fit; print(json.dumps(run_fit(Fit(**json.loads(sys.argv[1])))))"
    what = f"'{fit.method}' on {fit.domain}"
    return json.loads(allocator.run_elsewhere(code, json.dumps(dataclasses.asdict(fit)), what=what))


def report(rows: Sequence[dict[str, str]], methods: Sequence[str]) -> str:
    """Accuracy, its paired differences to the head alone and to full training, and what a training takes."""
    accuracies = Accuracies(rows)
    tables = [accuracy_table(accuracies, methods)]
    tables += [domain_table(accuracies, methods, reference) for reference in ("head", "full") if reference in accuracies]
    lines = [("cost of a fit, on tasks of all methods", "weights", "time", "peak MiB")]
    shared = Accuracies(shared_tasks(rows))
    for method in (method for method in methods if method in shared):
        weights, seconds, peak = (shared.average(method, field) for field in ("trained_weights", "seconds", "peak_bytes"))
        lines.append((method, f"{weights:,.0f}", duration(seconds), f"{peak / 2**20:.0f}"))
    return "\n\n".join([*tables, aligned(lines)])


def rate_table(rows: Sequence[dict[str, str]], methods: Sequence[str]) -> str:
    """Mean accuracy of each rate, and per domain the rate that is best on the other domains."""
    domains = sorted({row["domain"] for row in rows})
    lines = [("learning rate", *domains, "all")]
    for method in methods:
        found = [row for row in rows if row["method"] == method]
        lines += [
            (f"{method} {rate}", *(_mean(found, rate, [d]) for d in domains), _mean(found, rate, domains))
            for rate in _rates(found)
        ]
        others = [_best(found, [other for other in domains if other != domain] or domains) for domain in domains]
        lines.append((f"{method}: best on the others", *others, _best(found, domains)))
    return aligned(lines)


def _rates(rows):
    return sorted({row["learning_rate"] for row in rows}, key=float)


def _best(rows, domains):
    return max(_rates(rows), key=lambda rate: float(_mean(rows, rate, domains)), default="-")


def _mean(rows, rate, domains):
    """Percent, as text."""
    values = [100 * float(row["accuracy"]) for row in rows if row["learning_rate"] == rate and row["domain"] in domains]
    return f"{sum(values) / max(1, len(values)):.2f}"
