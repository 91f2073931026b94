"""Figures: matplotlib, where it is installed."""

import typing
from typing import Any

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(**options: Any) -> "Figure":
    """An empty `matplotlib.figure.Figure`. Raises ImportError, with what to install, where there is no matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Drawing a figure needs matplotlib. Install it with: pip install "keras-tinytrain[bench]"') from error
    return Figure(**options)
