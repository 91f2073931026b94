"""Choose a plan that a board can train and hold: a choice by estimates, measured as the export of it will measure."""

import dataclasses
import pathlib
import tempfile
import typing
from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras
import numpy as np

from keras_tinytrain.choose.selection import NothingFits
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.device_settings import DeviceSettings
from keras_tinytrain.export.backward.graph import read_trainable
from keras_tinytrain.export.conversion import convert, quantised
from keras_tinytrain.export.layout import Layout, device_accounting, lay_out
from keras_tinytrain.export.request import ExportRequest, check
from keras_tinytrain.export.settled import heads, storing_maps, tell
from keras_tinytrain.export.tflite.cut import cut_model
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import LayerPlan, Plan

# choose(accounting of the device's memory, {layer: why the device cannot train it}) -> a plan within a budget
Choose = Callable[[DeviceAccounting, Mapping[str, str]], Plan]


class Planned(NamedTuple):
    """A plan, and where its export will lay everything."""

    plan: Plan
    layout: Layout


@dataclasses.dataclass(frozen=True, eq=False)
class Rehearsal:
    """What all exports of one model have in common.

    Args:
        model, x: as `rehearse` takes them.
        canonical: `fold_batch_norm(model)`.
        whole: the int8 model.
        untrainable: {layer: why the device cannot train it}.
    """

    model: keras.Model
    x: np.ndarray
    canonical: keras.Model
    whole: bytes
    untrainable: dict[str, str]

    def plan(self, device: DeviceSettings, choose: Choose) -> Planned:
        """A plan that `export_tflm(model, plan, calibration=x)` exports for its board.

        The choice counts memory by an estimate. Where the export takes more, the choice is made again within as many bytes less.

        Args:
            device: what the device keeps. The plan carries it.
            choose: makes the choice, for instance by `planner.choose(..., accounting=accounting, frozen=untrainable)`.

        The plan's device has the first head of `settled.heads` with which a plan fits.

        Raises:
            NothingFits: no plan fits (a ValueError).
            ImportError: tflite-micro is not installed.
        """
        asked = self._request(Plan((), device=device))
        problem: ValueError | None = None
        for each in heads(asked):
            try:
                planned = self._plan(each.device, choose)
            except ValueError as error:
                problem = problem or error
                continue
            tell(each, asked, "Beside that no channel could be trained." if isinstance(problem, NothingFits) else str(problem))
            return planned
        raise typing.cast(ValueError, problem)

    def _plan(self, device: DeviceSettings, choose: Choose) -> Planned:
        plan = self.estimated(device, choose)
        while True:
            request = self._request(plan)
            converted = convert(request, self.whole)
            layout = lay_out(request, converted)
            limit = plan.budget.memory_bytes if plan.budget else request.board.available_sram_bytes
            excess = layout.sram["total"] - limit
            if excess <= 0:
                break
            plan = dataclasses.replace(_within(plan, excess), device=device)
        layout.check_fits()
        return Planned(plan, storing_maps(request, converted, layout)[2])

    def estimated(self, device: DeviceSettings, choose: Choose) -> Plan:
        """As `plan`, with bytes that are estimated only."""
        accounting = device_accounting(self._request(Plan((), device=device)))
        return dataclasses.replace(choose(accounting, self.untrainable), device=device)

    def _request(self, plan: Plan) -> ExportRequest:
        return _request(self.model, self.x, plan, self.canonical)


def rehearse(model: keras.Model, x: np.ndarray, device: DeviceSettings) -> Rehearsal:
    """All of an export that needs no plan.

    Args:
        model: what will be exported.
        x: (N, ...) samples in the model's own convention.
        device: its board and head.

    Raises:
        ValueError: the model cannot be exported; the layer is named.
    """
    canonical = fold_batch_norm(model)
    request = _request(model, x, Plan((), device=device), canonical)
    whole = quantised(request)
    return Rehearsal(model, x, canonical, whole, untrainable(request, whole))


def untrainable(request: ExportRequest, whole: bytes) -> dict[str, str]:
    """{layer: why the device cannot train it}: the export of a plan of that layer alone, tried.

    Args:
        request: of an export of the model.
        whole: its int8 model, as `quantised` gives it.
    """
    reasons = {}
    for row in layer_table(request.model):
        if row.trainable:
            plan = Plan((LayerPlan(row.name, tuple(range(row.num_channels))),))
            try:
                _, trainable, operators = cut_model(whole, request.model, plan, split=request.split)
                read_trainable(trainable, operators, plan)
            except ValueError as error:
                reasons[row.name] = str(error)
    return reasons


def _request(model: keras.Model, x: np.ndarray, plan: Plan, canonical: keras.Model) -> ExportRequest:
    """Of a plan with a device, which says all the rest."""
    with tempfile.TemporaryDirectory() as folder:
        return check(
            model,
            plan,
            calibration=x,
            out=pathlib.Path(folder, "bundle"),
            board=None,
            head=None,
            training=None,
            views=None,
            split=True,
            weights_in_ram="cheapest",
            features=None,
            sketch="serial",
            overwrite=False,
            canonical=canonical,
        )


def _within(plan: Plan, excess: int) -> Plan:
    """The same choice within `excess` bytes less than it had."""
    if plan.budget is None or plan.explanation is None:
        raise NothingFits(
            f"Strategy '{plan.strategy}' keeps to no budget, and its plan takes {excess:,} B more than there are. Take another "
            "strategy, such as 'fisher'."
        )
    try:
        return plan.explanation.choose(dataclasses.replace(plan.budget, memory=max(plan.budget.memory_bytes - excess, 1)))
    except NothingFits as error:
        raise NothingFits(
            f"An export takes {excess:,} B more than the estimate of its plan, and there is no smaller plan within "
            f"{plan.budget.memory_bytes:,} B."
        ) from error
