"""A plan for the board of a command line: what its device keeps, and what to change where nothing fits."""

import argparse
import dataclasses

import keras

from keras_tinytrain.choose.selection import NothingFits
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.cli import options
from keras_tinytrain.cli.samples import LabelledSamples
from keras_tinytrain.device_settings import AUTO, DeviceSettings
from keras_tinytrain.export import board
from keras_tinytrain.export.head import CLOSED_FORM
from keras_tinytrain.export.layout import Layout
from keras_tinytrain.export.planning import Choose, Rehearsal, rehearse
from keras_tinytrain.export.remedy import what_fits
from keras_tinytrain.export.rungs import told
from keras_tinytrain.fewshot.task_loss import device_head
from keras_tinytrain.plan import Budget, Plan

NO_BOARD = "none"  # as --board: a plan for training in Keras alone


def device_of(args: argparse.Namespace, model: keras.Model, samples: LabelledSamples) -> DeviceSettings:
    """A device for the model and these samples, and as the command line says."""
    num_classes = int(samples.y.max()) + 1
    head = device_head(model, num_classes, args.head)
    known = {"max_samples": len(samples.y), "num_classes": num_classes, "class_names": samples.class_names, "head": head}
    return DeviceSettings(**{**known, **options.given_settings(args)})


def budget_of(args: argparse.Namespace) -> Budget:
    """--memory and --compute; without --memory, what the board has. Raises ValueError where the board has less."""
    if args.board == NO_BOARD:
        return Budget(compute=args.compute) if args.memory is None else Budget(args.memory, args.compute)
    target = board(args.board or DeviceSettings.board)
    budget = Budget(args.memory or target.available_sram_bytes, args.compute)
    if budget.memory_bytes > target.available_sram_bytes:
        raise ValueError(
            f"--memory {args.memory} is {budget.memory_bytes:,} B, and board '{target.name}' has {target.available_sram_bytes:,} B "
            f"for an export: leave --memory out, name another --board, or plan for Keras alone with --board {NO_BOARD}."
        )
    return budget


def plan_for(
    device: DeviceSettings, model: keras.Model, samples: LabelledSamples, choose: Choose
) -> tuple[Plan, Layout | None]:
    """A plan, and where its export lays everything; None where that is not measured.

    Raises:
        ValueError: the board cannot train the model.
        NothingFits: no plan fits. The message names the options with which one does.
    """
    if device.board == NO_BOARD:
        accounting = DeviceAccounting(
            device.optimizer,
            device.weights,
            device.max_samples,
            len(device.views),
            device.num_classes,
            device.features,
            closed_form=device.head == CLOSED_FORM,
            rejects=device.reject_unknown > 0,
        )
        return choose(accounting, {}), None
    rehearsal = rehearse(model, samples.x, device)
    try:
        return rehearsal.plan(device, choose)
    except NothingFits as error:
        lighter = dataclasses.replace(device, head="prototypes") if device.head == AUTO else device
        raise NothingFits(f"{error} {_what_fits(rehearsal, lighter, choose)}".strip()) from error
    except ImportError as error:
        options.remark(f"the plan's bytes are an estimate, since none were measured. {error}")
        return rehearsal.estimated(device, choose), None


def with_time(plan: Plan, layout: Layout | None, time: str | None) -> tuple[Plan, str]:
    """The plan with --time in its budget, and the line that tells how far the board climbs in it; "" where there is no limit.

    Raises:
        ValueError: nothing fits, or the board's time is not known.
    """
    if time is None:
        return plan, ""
    budget = dataclasses.replace(plan.budget or Budget(), time=time)
    if layout is None or budget.seconds is None:
        raise ValueError("--time counts on a board, and needs its measured export: name a --board, and install tflite-micro.")
    return dataclasses.replace(plan, budget=budget), told(layout.time, budget.seconds, layout.board)


def _what_fits(rehearsal: Rehearsal, device: DeviceSettings, choose: Choose) -> str:
    def size(tried: DeviceSettings) -> int | None:
        try:
            return rehearsal.plan(tried, choose).layout.sram["total"]
        except NothingFits:
            return None

    return what_fits(device, board(device.board), size)
