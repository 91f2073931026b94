"""`keras-tinytrain benchmark tflm`: what bundles promise beside what they take over a TensorFlow Lite Micro of the user's."""

import argparse
import dataclasses
import json
import pathlib
import tempfile
import typing

import numpy as np

from keras_tinytrain._text import aligned
from keras_tinytrain.backbones.gesture import WINDOW
from keras_tinytrain.backbones.names import find_backbone
from keras_tinytrain.benchmark.emulated import SHOTS, SIDES, WAYS, board_with_kernels, choose_plan
from keras_tinytrain.benchmark.networks import find_network
from keras_tinytrain.benchmark.tasks import NumberedTask, TaskShape, draw_task
from keras_tinytrain.data import Domain
from keras_tinytrain.data.domain_by_name import load_domain
from keras_tinytrain.data.motion import DEGREES_PER_SECOND
from keras_tinytrain.export import Bundle, TrainingSettings, export_tflm
from keras_tinytrain.export.code_size import OPERATORS
from keras_tinytrain.metatrain.invented_motions import invented_motions
from keras_tinytrain.plan import Budget
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.arena_on_board import measure_arenas
from keras_tinytrain.run.code_on_board import measure_code
from keras_tinytrain.run.emulation import EmulatedTask, emulate_task
from keras_tinytrain.run.users_tflm import users_tflm

if typing.TYPE_CHECKING:
    import keras

QUERIES = 3  # of each class


def run(args: argparse.Namespace) -> int:
    """Measure each network and print it as soon as it is done. Returns 0, or 1 where one does not run or differs from the host."""
    if users_tflm() is None:
        raise ValueError(
            "benchmark tflm measures a TensorFlow Lite Micro of yours, built for Cortex-M4: name it in TFLM_INCLUDE_DIRS and "
            "TFLM_LIBRARY."
        )
    if args.code:
        print(json.dumps(measure_code(OPERATORS)))
        return 0
    rows = [measure_network(name, args) for name in args.networks]
    print(json.dumps(rows) if args.json else aligned([_HEADINGS, *map(_cells, rows)], num_left=2))
    return 0 if all(row["runs"] == "yes" and row["same_as_host"] for row in rows) else 1


def measure_network(name: str, args: argparse.Namespace) -> dict[str, typing.Any]:
    """Figures of one network's task: arenas, flash, SRAM, each promised and measured; "runs" says why where it does not."""
    shape = (SIDES[name], SIDES[name], 3) if name in SIDES else None
    weights = None if args.weights == "none" else args.weights or find_network(name).weights
    model = find_backbone(name)(**({"input_shape": shape} if shape else {}), weights=weights)
    task = draw_task(
        _domain(model, args), TaskShape("fixed", WAYS, SHOTS, QUERIES), model.input_shape[1:], seed=args.seed, episode=0
    )
    row: dict[str, typing.Any] = {"network": name, "runs": "no", "same_as_host": False}
    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder:
        try:
            bundle = _export(name, model, task, pathlib.Path(folder, "bundle"), args)
            row |= {"promised": _promised(bundle), "measured": measure_arenas(bundle), "promised_parts": bundle.promised_bytes}
            emulated = emulate_task(bundle, task.support_x, task.support_y)
        except (ValueError, RuntimeError) as error:
            return row | {"runs": str(error)}
        row["measured"] |= {"flash": emulated.flash_bytes["total"], "sram": emulated.sram_bytes["total"] - emulated.stack_bytes}
        return row | {
            "runs": "yes",
            "same_as_host": _same_as_host(bundle, task, emulated),
            "stack": emulated.stack_bytes,
            "measured_parts": {"sram": emulated.sram_bytes, "flash": emulated.flash_bytes},
            "instructions": emulated.instructions,
        }


def _domain(model: "keras.Model", args: argparse.Namespace) -> Domain:
    """The named one; for a network of motions, new ones."""
    if tuple(model.input_shape[1:]) != WINDOW:
        return load_domain(args.domain)
    motions = invented_motions(np.random.default_rng(args.seed), WAYS, SHOTS + QUERIES)[:, :, None]
    motions /= np.repeat([1.0, DEGREES_PER_SECOND], 3)
    return Domain("motions", motions.astype(np.float32), np.repeat(np.arange(WAYS), SHOTS + QUERIES))


def _export(name: str, model: "keras.Model", task: NumberedTask, out: pathlib.Path, args: argparse.Namespace) -> Bundle:
    x = task.support_x
    target = dataclasses.replace(
        board_with_kernels(args), reserved_flash_bytes=0
    )  # the emulated board has no core of Arduino's
    budget = Budget(args.memory or target.available_sram_bytes, find_network(name).budget.compute)
    plan = choose_plan(model, x, task.support_y, budget, args)
    training = TrainingSettings(
        args.optimizer, args.trained_weights, iterations=args.iterations, num_classes=WAYS, max_samples=len(x)
    )
    return export_tflm(
        model, plan, calibration=x, out=out, board=target, training=training, features=args.features, head="prototypes"
    )


def _promised(bundle: Bundle) -> dict[str, int]:
    memories = bundle.promised_bytes
    return {**bundle.manifest["arenas"], **{memory: memories[memory]["total"] for memory in ("flash", "sram")}}


def _same_as_host(bundle: Bundle, task: NumberedTask, emulated: EmulatedTask) -> bool:
    host = HostRuntime(bundle)
    host.add_samples(task.support_x, task.support_y)
    host.train()
    return emulated.delta == host.trainer.save_delta(0)


_FIGURES = ("frozen_arena", "trainable_arena", "flash", "sram")
_HEADINGS = (
    "network",
    "runs",
    "delta is the host's",
    *(f"{name}: promised, used" for name in _FIGURES),
    "stack",
    "instructions",
)


def _cells(row):
    promised, measured = row.get("promised", {}), row.get("measured", {})
    pairs = [", ".join(f"{each[name]:,}" if name in each else "-" for each in (promised, measured)) for name in _FIGURES]
    total = f"{row['instructions']['total'] / 1e9:.2f} G" if "instructions" in row else "-"
    stack = f"{row['stack']:,}" if "stack" in row else "-"
    return (row["network"], row["runs"], "yes" if row["same_as_host"] else "no", *pairs, stack, total)
