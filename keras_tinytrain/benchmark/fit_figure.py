"""`benchmark fit --figure`: accuracy by domain, and beside its time and memory."""

import os
from collections.abc import Sequence

from keras_tinytrain._figure import new_figure, palette, save_figure
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
    accuracies = Accuracies(rows)
    drawn = [method for method in methods if method in accuracies]
    figure, colors = new_figure(figsize=(11, 8), layout="constrained"), palette(drawn)
    by_domain, *costs = figure.subplot_mosaic("aa;bc").values()
    _draw_domains(by_domain, accuracies, colors)
    shared = Accuracies(shared_tasks(rows))
    for axes, field, unit, label in zip(costs, ("seconds", "peak_bytes"), (1, 2**20), ("seconds of fit", "peak memory, MiB")):
        _draw_cost(axes, shared, {method: color for method, color in colors.items() if method in shared}, field, unit)
        axes.set(xlabel=label, ylabel="accuracy %, tasks of all methods", xlim=(0, 1.35 * axes.get_xlim()[1]))  # room for names
    save_figure(figure, path)


def _draw_domains(axes, accuracies, colors):
    for number, (method, color) in enumerate(colors.items()):
        found = [accuracies.mean(method, domain) for domain in accuracies.domains]
        places = [place + 0.8 * ((number + 0.5) / len(colors) - 0.5) for place in range(len(found))]
        halves = [interval.half for interval in found]
        means, width = [interval.mean for interval in found], 0.8 / len(colors)
        axes.bar(places, means, width, yerr=halves, label=method, color=color, capsize=2)
    axes.set_xticks(range(len(accuracies.domains)), accuracies.domains)
    axes.set(title="Accuracy on samples not trained on, with 95 % intervals over seeds", ylabel="accuracy %")
    axes.legend(fontsize="small", ncols=len(colors), loc="upper center", bbox_to_anchor=(0.5, -0.08))


def _draw_cost(axes, accuracies, colors, field, unit):
    axes.margins(y=0.15)
    for method, color in colors.items():
        place = accuracies.average(method, field) / unit, accuracies.mean(method).mean
        axes.plot(*place, "o", color=color)
        axes.annotate(method, place, xytext=(5, 5), textcoords="offset points", fontsize="small")
