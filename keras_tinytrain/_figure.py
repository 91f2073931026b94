"""Figures: matplotlib, where it is installed."""

import io
import os
import pathlib
import typing
from collections.abc import Sequence
from typing import Any

from keras_tinytrain._files import write_file

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(**options: Any) -> "Figure":
    """An empty `matplotlib.figure.Figure`. Raises ImportError, with what to install, where there is no matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Drawing a figure needs matplotlib. Install it with: pip install "keras-tinytrain[bench]"') from error
    return Figure(**options)


def palette(names: Sequence[str]) -> dict[str, Any]:
    """A colour for each name: in all drawings of a figure the same. Raises ImportError where there is no matplotlib."""
    from matplotlib import colormaps

    colors = colormaps["tab10" if len(names) <= 10 else "tab20"]
    return {name: colors(number % colors.N) for number, name in enumerate(names)}


def save_figure(figure: "Figure", path: str | os.PathLike) -> None:
    """Write a figure in the format of the suffix, such as .png or .svg. Raises ValueError for a format that is not known."""
    picture = io.BytesIO()
    figure.savefig(picture, format=pathlib.Path(path).suffix[1:] or "png")
    write_file(path, picture.getvalue())
