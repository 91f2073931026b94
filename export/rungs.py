"""How far to climb in a given time: training with 40, 20, 10 or 5 iterations, the closed-form head alone, prototypes alone."""

import dataclasses
from typing import NamedTuple

from keras_tinytrain._text import duration
from keras_tinytrain.export.boards import Board
from keras_tinytrain.export.conversion import Converted, convert
from keras_tinytrain.export.layout import Layout, lay_out
from keras_tinytrain.export.request import ExportRequest
from keras_tinytrain.export.task_time import TaskTime

ITERATIONS = (40, 20, 10, 5)


class Rung(NamedTuple):
    """A way to learn a task, and how long it takes."""

    name: str
    time: TaskTime

    def __str__(self) -> str:
        return f"{self.name} ({duration(self.time.learn)})"


def rungs(time: TaskTime) -> tuple[Rung, ...]:
    """Those of a bundle, the highest first. A softmax that is not trained knows nothing, and has none without training."""
    found = [Rung(f"{count} iterations", dataclasses.replace(time, iterations=count)) for count in ITERATIONS]
    alone = dataclasses.replace(time, iterations=0)
    if time.solve:
        found.append(Rung("the closed-form head alone", alone))
    if time.prototypes:
        found.append(Rung("prototypes alone", dataclasses.replace(alone, solve=0.0)))
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
            "time expects a board whose cycles are known, which are those of a Cortex-M4F such as a nano33ble's. Received: board "
            f"'{board.name}' ({board.cpu}). Leave time out, and say TrainingSettings(iterations=...) (--iterations)."
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
    """One line: the rung that fits, its time, and what the next one would take."""
    rung = highest_rung(time, seconds, board)
    assert time is not None  # or none had fitted
    every = rungs(time)
    names = [each.name for each in every]
    place = names.index(rung.name)
    higher = f"; {every[place - 1].name} would take {duration(every[place - 1].time.learn)}" if place else ""
    return f"Within {duration(seconds)}: {rung.name}, in {duration(rung.time.learn)}{higher}."


def within_time(request: ExportRequest, converted: Converted, layout: Layout) -> tuple[ExportRequest, Converted, Layout]:
    """The export of the highest rung that fits `request.seconds`; as it stands where nobody limits its time."""
    if request.seconds is None:
        return request, converted, layout
    rung = highest_rung(_slower(request, converted, layout), request.seconds, request.board)
    chosen = _with_iterations(request, rung.time.iterations)
    if request.maps is not None and not rung.time.solve:
        chosen = _with_prototypes(chosen)
    converted = convert(chosen, converted.whole)
    layout = lay_out(chosen, converted)
    return chosen, converted, dataclasses.replace(layout, time=rung.time) if chosen.chooses else layout


def _slower(request: ExportRequest, converted: Converted, layout: Layout) -> TaskTime | None:
    """The time of a layout; where the device chooses its head, an iteration is that of the slower one."""
    if layout.time is None or not request.chooses:
        return layout.time
    prototypes = request.with_prototypes()
    other = lay_out(prototypes, convert(prototypes, converted.whole)).time
    return (
        layout.time
        if other is None
        else dataclasses.replace(layout.time, iteration=max(layout.time.iteration, other.iteration))
    )


def _with_iterations(request: ExportRequest, iterations: int) -> ExportRequest:
    training, other = request.training, request.prototype_training
    return dataclasses.replace(
        request,
        training=dataclasses.replace(training, iterations=iterations),
        prototype_training=other and dataclasses.replace(other, iterations=iterations),
    )


def _with_prototypes(request: ExportRequest) -> ExportRequest:
    """Without the closed-form head."""
    if request.chooses:
        return request.with_prototypes()
    device = dataclasses.replace(request.device, head="prototypes", reject_unknown=0.0)
    return dataclasses.replace(request, maps=None).with_device(device)
