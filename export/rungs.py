"""How far to climb in a given time: training with 40, 20, 10 or 5 iterations, the closed-form head alone, prototypes alone."""

import dataclasses
import logging
from typing import NamedTuple

from keras_tinytrain._text import duration
from keras_tinytrain.export.boards import Board
from keras_tinytrain.export.conversion import Converted, convert
from keras_tinytrain.export.layout import Layout, lay_out
from keras_tinytrain.export.request import ExportRequest
from keras_tinytrain.export.task_time import TaskTime

_LOG = logging.getLogger(__name__)

ITERATIONS = (40, 20, 10, 5)


class Rung(NamedTuple):
    """A way to learn a task, and how long it takes."""

    name: str
    time: TaskTime

    def __str__(self) -> str:
        return f"{self.name} ({duration(self.time.learn)})"


def rungs(time: TaskTime) -> tuple[Rung, ...]:
    """Those of a bundle, the highest first; where its device chooses its head, each takes as long as the slower one.

    A softmax that is not trained knows nothing, and has none without training. A closed-form head that was named is kept.
    """
    found = [Rung(f"{count} iterations", time.with_iterations(count)) for count in ITERATIONS]
    alone = time.with_iterations(0)
    if time.solve:
        found.append(Rung("the closed-form head alone", alone))
    if time.prototypes and (time.by_prototypes or not time.solve):
        found.append(Rung("prototypes alone", dataclasses.replace(alone, solve=0.0, choice=0.0, by_prototypes=None)))
    return tuple(found)


def highest_rung(time: TaskTime | None, seconds: float, board: Board) -> Rung:
    """The highest that fits.

    Args:
        time: of the layout.
        seconds: that learning a task may take.

    Raises:
        ValueError: none fits, or the time of the board is not known.
    """
    if time is None:
        raise ValueError(
            "Budget(time=...) expects a board whose cycles are known, which are those of a Cortex-M4F such as a nano33ble's. Received: board "
            f"'{board.name}' ({board.cpu}). Leave Budget(time=...) out, and give TrainingSettings(iterations=...) to the export."
        )
    every = rungs(time)
    if every[-1].time.learn > seconds:
        needed = every[-1]
        raise ValueError(
            f"Learning {time.num_samples} samples on board '{board.name}' takes {duration(needed.time.learn)} at least, by "
            f"{needed.name}. Received: a budget of {duration(seconds)}."
        )
    return next(rung for rung in every if rung.time.learn <= seconds)


def told(time: TaskTime | None, seconds: float, board: Board) -> str:
    """One line: the rung that fits, its time, what the next one would take, and the time of an answer."""
    rung = highest_rung(time, seconds, board)
    assert time is not None  # or none had fitted
    every = rungs(time)
    names = [each.name for each in every]
    place = names.index(rung.name)
    higher = f"; {every[place - 1].name} would take {duration(every[place - 1].time.learn)}" if place else ""
    learn, answer = rung.time.told(iterations=False), duration(rung.time.answer)
    return f"Within {duration(seconds)}: {rung.name}, in {learn}{higher}. It answers in about {answer}."


def within_time(request: ExportRequest, converted: Converted, layout: Layout) -> tuple[ExportRequest, Converted, Layout]:
    """The export of the highest rung that fits `request.seconds`, and a line that says which; as it stands where nobody limits its time."""
    if request.seconds is None:
        return request, converted, layout
    rung = highest_rung(layout.time, request.seconds, request.board)
    chosen = _with_iterations(request, rung.time.iterations)
    if request.chooses and not rung.time.solve:
        chosen = chosen.with_prototypes()
    _LOG.warning("%s", told(layout.time, request.seconds, request.board))
    converted = convert(chosen, converted.whole)
    return chosen, converted, lay_out(chosen, converted)


def _with_iterations(request: ExportRequest, iterations: int) -> ExportRequest:
    return dataclasses.replace(request, asked=dataclasses.replace(request.asked, iterations=iterations))
