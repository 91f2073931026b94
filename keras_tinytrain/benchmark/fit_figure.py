"""`benchmark fit --figure`: accuracy by domain, and beside its time and memory."""

import os
from collections.abc import Sequence

from keras_tinytrain.benchmark.accuracy_tables import Accuracies, shared_tasks


def write_fit_figure(rows: Sequence[dict[str, str]], methods: Sequence[str], path: str | os.PathLike) -> None:
    """Draw accuracy with 95 % intervals by domain, and mean accuracy against seconds and against peak memory.

    Args:
        rows: as `results.read_results` gives them.
        methods: which to draw.
        path: the file to write; its suffix is the format, such as .png or .svg.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    accuracies = Accuracies(rows)
    drawn = [method for method in methods if method in accuracies]
    figure = Figure(figsize=(11, 8), layout="constrained")
    by_domain, *costs = figure.subplot_mosaic("aa;bc").values()
    _draw_domains(by_domain, accuracies, drawn)
    shared = Accuracies(shared_tasks(rows))
    for axes, field, unit, label in zip(costs, ("seconds", "peak_bytes"), (1, 2**20), ("seconds of fit", "peak memory, MiB")):
        _draw_cost(axes, shared, [method for method in drawn if method in shared], field, unit)
        axes.set(xlabel=label, ylabel="accuracy %, tasks of all methods", xlim=(0, 1.35 * axes.get_xlim()[1]))  # room for names
    figure.savefig(path)


def _draw_domains(axes, accuracies, methods):
    for number, method in enumerate(methods):
        found = [accuracies.mean(method, domain) for domain in accuracies.domains]
        places = [place + 0.8 * ((number + 0.5) / len(methods) - 0.5) for place in range(len(found))]
        halves = [interval.half for interval in found]
        axes.bar(places, [interval.mean for interval in found], 0.8 / len(methods), yerr=halves, label=method, capsize=2)
    axes.set_xticks(range(len(accuracies.domains)), accuracies.domains)
    axes.set(title="Accuracy on samples not trained on, with 95 % intervals over seeds", ylabel="accuracy %")
    axes.legend(fontsize="small", ncols=len(methods), loc="upper center", bbox_to_anchor=(0.5, -0.08))


def _draw_cost(axes, accuracies, methods, field, unit):
    axes.margins(y=0.15)
    for method in methods:
        place = accuracies.average(method, field) / unit, accuracies.mean(method).mean
        axes.plot(*place, "o")
        axes.annotate(method, place, xytext=(5, 5), textcoords="offset points", fontsize="small")
