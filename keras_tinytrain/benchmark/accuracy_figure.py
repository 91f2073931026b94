"""`benchmark accuracy --figure`: the gain of each method by domain, and beside its memory."""

import os
from collections.abc import Sequence

from keras_tinytrain._figure import new_figure, palette, save_figure
from keras_tinytrain.benchmark.accuracy_tables import Accuracies


def write_accuracy_figure(
    rows: Sequence[dict[str, str]], methods: Sequence[str], reference: str, path: str | os.PathLike
) -> None:
    """Draw paired differences with 95 % intervals by domain, and accuracy against memory.

    Args:
        rows: of one backbone, as `results.read_results` gives them.
        methods: which to draw.
        reference: the method that the others are compared with.
        path: the file to write; its suffix is the format, such as .png or .svg.

    Raises:
        ImportError: matplotlib is not installed.
    """
    accuracies = Accuracies(rows)
    figure = new_figure(figsize=(11, 9), layout="constrained")
    gains, costs = figure.subplots(2)
    colors = palette(methods)
    _draw_gains(gains, accuracies, {method: color for method, color in colors.items() if method != reference}, reference)
    _draw_costs(costs, accuracies, colors)
    save_figure(figure, path)


def _draw_gains(axes, accuracies, colors, reference):
    places, width = [*accuracies.domains, None], 0.8 / max(1, len(colors))
    for number, (method, color) in enumerate(colors.items()):
        found = [accuracies.difference(method, reference, domain) for domain in places]
        positions = [place + (number - (len(colors) - 1) / 2) * width for place in range(len(places))]
        halves = [interval.half for interval in found]
        axes.bar(positions, [interval.mean for interval in found], width, yerr=halves, label=method, color=color, capsize=2)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set_xticks(range(len(places)), [domain or "all" for domain in places])
    axes.set(title=f"Accuracy minus {reference}, paired, with 95 % intervals", ylabel="points")
    axes.legend(fontsize="small", ncols=2)


def _draw_costs(axes, accuracies, colors):
    for method, color in colors.items():
        overall, memory = accuracies.mean(method), accuracies.average(method, "memory_bytes") / 2**20
        axes.errorbar([memory], [overall.mean], yerr=[overall.half], marker="o", color=color, capsize=2)
        axes.annotate(method, (memory, overall.mean), xytext=(5, 5), textcoords="offset points", fontsize="small")
    axes.set(
        title="Accuracy and memory of training (batch 1, float32, the paper's accounting)", xlabel="MB", ylabel="accuracy %"
    )
