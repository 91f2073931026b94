"""`benchmark rungs --figure`: accuracy beside seconds on the board, with the front that nothing beats in both."""

import os
from collections.abc import Sequence

from keras_tinytrain._figure import new_figure, palette, save_figure
from keras_tinytrain._text import duration
from keras_tinytrain.benchmark.rung import Rung

_TICKS = (10, 30, 60, 120, 300, 600, 1200, 3600, 7200, 14400)  # seconds
_LINE = 0.042  # of the axes' height: between names


def write_rungs_figure(rungs: Sequence[Rung], board: str, path: str | os.PathLike) -> None:
    """Draw the rungs, to be read on a telephone too.

    Args:
        rungs: as `rungs.climb` gives them.
        board: its name.
        path: the file to write; its suffix is the format, such as .png or .svg.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = new_figure(figsize=(5.2, 5.6), layout="constrained", dpi=200)
    axes, colors = figure.subplots(), palette([rung.name for rung in rungs])
    front = [rung for rung in rungs if rung.on_front]
    axes.step(
        [rung.seconds for rung in front], [rung.accuracy for rung in front], where="post", color="0.6", linewidth=1.5, zorder=1
    )
    for rung in rungs:
        axes.plot(rung.seconds, rung.accuracy, "o" if rung.on_front else "D", color=colors[rung.name], markersize=7, zorder=2)
    seconds, accuracies = [rung.seconds for rung in rungs], [rung.accuracy for rung in rungs]
    height = max(accuracies) - min(accuracies) or 1.0
    axes.set_xscale("log")
    axes.set(
        xlim=(min(seconds) / 1.3, max(seconds) * 1.5), ylim=(min(accuracies) - 0.1 * height, max(accuracies) + 0.15 * height)
    )
    axes.set_xticks([tick for tick in _TICKS if axes.get_xlim()[0] < tick < axes.get_xlim()[1]], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xticklabels(
        [duration(tick).removesuffix(" 0 s").removesuffix(" 0 min").replace(".0 s", " s") for tick in axes.get_xticks()]
    )
    axes.set(xlabel=f"to learn 25 samples on a {board}", ylabel="accuracy %")
    axes.grid(alpha=0.3)
    _name(axes, rungs, colors)
    save_figure(figure, path)


def _name(axes, rungs, colors):
    """Names beside their points, moved apart where they would lie on each other; a thin line leads from each that was moved."""
    low, high = axes.get_ylim()
    least, middle = (
        _LINE * (high - low),
        sum(axes.transAxes.inverted().transform(axes.transData.transform((rung.seconds, 0)))[0] for rung in rungs) / len(rungs),
    )
    place = high
    for rung in sorted(rungs, key=lambda rung: -rung.accuracy):
        across = axes.transAxes.inverted().transform(axes.transData.transform((rung.seconds, rung.accuracy)))[0]
        place = min(place - least, rung.accuracy)
        is_left = across > middle
        axes.annotate(
            rung.name,
            (rung.seconds, rung.accuracy),
            xytext=(across + (-0.03 if is_left else 0.03), place),
            textcoords=axes.get_yaxis_transform(),
            ha="right" if is_left else "left",
            va="center",
            fontsize=9,
            color=colors[rung.name],
            arrowprops={"arrowstyle": "-", "linewidth": 0.6, "color": colors[rung.name], "shrinkB": 3},
        )
