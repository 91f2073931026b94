"""`benchmark rungs --figure`: accuracy beside seconds on the board, with the front that nothing beats in both."""

import os
from collections.abc import Sequence

from keras_tinytrain._figure import new_figure, palette, save_figure
from keras_tinytrain.benchmark.rung import Rung

_TICKS = {1: "1 s", 3: "3 s", 10: "10 s", 30: "30 s", 60: "1 min", 120: "2 min", 300: "5 min", 600: "10 min", 1200: "20 min"}
_TICKS |= {3600: "1 h", 10800: "3 h", 36000: "10 h"}


def write_rungs_figure(rungs: Sequence[Rung], board: str, path: str | os.PathLike) -> None:
    """Draw the rungs, to be read on a telephone too.

    Args:
        rungs: as `rungs.climb` gives them.
        board: its name.
        path: the file to write; its suffix is the format, such as .png or .svg.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = new_figure(figsize=(5.2, 4.8 + 0.19 * len(rungs)), layout="constrained", dpi=200)
    axes, colors = figure.subplots(), palette([rung.name for rung in rungs])
    front = [rung for rung in rungs if rung.on_front]
    places = [rung.seconds for rung in front], [rung.accuracy for rung in front]
    axes.step(*places, where="post", color="0.6", linewidth=1.5, zorder=1)
    for number, rung in enumerate(rungs, 1):
        place, shape = (rung.seconds, rung.accuracy), "o" if rung.on_front else "s"
        axes.plot(*place, shape, color=colors[rung.name], markersize=12, label=f"{number}  {rung.name}", zorder=2)
        axes.annotate(str(number), place, ha="center", va="center", color="white", fontsize=8, fontweight="bold")
    _scale(axes, rungs)
    axes.set(xlabel=f"to learn 25 samples on a {board}", ylabel="accuracy %")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower left", fontsize=9, markerscale=0.6, frameon=False)
    save_figure(figure, path)


def _scale(axes, rungs):
    """Seconds as people say them, on a logarithmic axis."""
    seconds = [rung.seconds for rung in rungs]
    axes.set_xscale("log")
    axes.set_xlim(min(seconds) / 1.3, max(seconds) * 1.3)
    axes.margins(y=0.08)
    ticks = {seconds: text for seconds, text in _TICKS.items() if axes.get_xlim()[0] < seconds < axes.get_xlim()[1]}
    axes.set_xticks(list(ticks), ticks.values())
    axes.set_xticks([], minor=True)
