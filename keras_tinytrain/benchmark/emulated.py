"""`keras-tinytrain benchmark emulated`: bytes and instructions of real networks on an emulated Nano 33 BLE.

With fewer than 40 iterations a whole task's instructions are computed from those: all iterations take nearly the same.
"""

import argparse
import dataclasses
import json
import pathlib
import tempfile
import typing

import numpy as np

from keras_tinytrain._text import aligned
from keras_tinytrain.backbones.names import find_backbone
from keras_tinytrain.benchmark.networks import find_network
from keras_tinytrain.benchmark.tasks import TaskShape, draw_task
from keras_tinytrain.benchmark.whole_task import ITERATIONS, whole_passes
from keras_tinytrain.choose import paper_cost, planner, selection
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.data import load_npz
from keras_tinytrain.export import Board, Candidates, TrainingSettings, board, export_tflm
from keras_tinytrain.fewshot.adaptation import prototype_classifier
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import Budget, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.arena_on_board import measure_arenas, pretended
from keras_tinytrain.run.emulation import emulate_task

if typing.TYPE_CHECKING:
    import keras

WAYS, SHOTS = 5, 5
BOARD = board("nano33ble")
SIDES = {"mobilenet_v2": 96}  # pixels of a network's images where 128 do not fit


def run(args: argparse.Namespace) -> int:
    """Emulate each method on one task and print its figures. Returns 0."""
    rows = [emulate_method(method, args) for method in args.methods]
    if args.json:
        print(json.dumps(rows))
    else:
        print(aligned([("", *(row["method"] for row in rows)), *_lines(rows)]))
    return 0


def emulate_method(method: str, args: argparse.Namespace) -> dict:
    """Figures of one method on one task; see the keys of `_figures` and `_per_sample`."""
    network, side = find_network(args.backbone), SIDES.get(args.backbone, 128)
    model = find_backbone(args.backbone)((side, side, 3), weights=args.weights)
    task = draw_task(
        load_npz(args.domain, size=None), TaskShape("fixed", WAYS, SHOTS), (side, side, 3), seed=args.seed, episode=0
    )
    x, y = task.support_x, task.support_y
    target = pretended(board_with_kernels(args)) if method == "full" else board_with_kernels(args)
    budget = Budget(args.memory or target.available_sram_bytes, network.budget.compute)
    settings = TrainingSettings(
        args.optimizer, args.trained_weights, iterations=args.iterations, num_classes=WAYS, max_samples=len(x)
    )
    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder:
        chosen = _chosen(model, x, y, method, budget, args)
        out = pathlib.Path(folder, "bundle")
        bundle = export_tflm(
            model, chosen, calibration=x, out=out, board=target, training=settings, features=args.features, head="prototypes"
        )
        host = HostRuntime(bundle)
        host.add_samples(x, y)
        host.trainer.update_prototypes()
        untrained = host.predict(task.query_x)
        host.train()
        emulated = emulate_task(bundle, x, y, queries=task.query_x)
        accuracies = [_accuracy(logits, task.query_y) for logits in (untrained, emulated.logits)]
        return {
            "method": method,
            **_figures(model, bundle, host.plan, emulated, everything=method == "full"),
            **_per_sample(emulated, len(x), args.iterations),
            "losses": [emulated.losses[0], emulated.losses[-1]],
            "query_accuracy": accuracies,
            "same_as_host": emulated.delta == host.trainer.save_delta(0) and emulated.plan.layers == host.plan.layers,
        }


def _chosen(model, x, y, method, budget, args):
    """The plan to export, or the candidates from which the board chooses."""
    if method == "full":
        return selection.full_plan(layer_table(model))
    if method == "adaptive":
        return Candidates(args.last_blocks, budget=budget)
    return choose_plan(model, x, y, budget, args)


def board_with_kernels(args: argparse.Namespace) -> Board:
    """The board, with the kernels that `args` names."""
    return dataclasses.replace(BOARD, kernels=args.kernels or BOARD.kernels)


def choose_plan(model: "keras.Model", x: np.ndarray, y: np.ndarray, budget: Budget, args: argparse.Namespace) -> Plan:
    """The plan for labelled samples on the board, with the settings that `args` names."""
    kernels = board_with_kernels(args).kernels
    accounting = DeviceAccounting(
        args.optimizer, args.trained_weights, len(x), num_classes=WAYS, features=args.features, kernels=kernels
    )
    loss, classifier = planner.summed_cross_entropy(y), prototype_classifier(model, x, y).model
    return planner.choose(classifier, x, loss, budget, accounting=accounting, last_blocks=args.last_blocks)


def _figures(model, bundle, plan, emulated, *, everything):
    """Weights, multiply-accumulates and bytes."""
    choice, table = paper_cost.num_channels(plan), layer_table(model)
    return {
        "trained_weights": paper_cost.num_trained_weights(table, choice),
        "backward_macs": paper_cost.backward_macs(table, choice),
        "layers": {} if everything else {layer.name: len(layer.channels) for layer in plan.layers},
        "sram_bytes": emulated.sram_bytes,
        "sram_promised": bundle.promised_bytes["sram"]["total"],
        "flash_bytes": emulated.flash_bytes,
        "flash_promised": bundle.promised_bytes["flash"]["total"],
        "arenas_promised": bundle.manifest["arenas"],
        **({} if emulated.forward_is_estimated else {"arenas_measured": measure_arenas(bundle)}),
        "stack_bytes": emulated.stack_bytes,
        "heap_bytes": emulated.heap_bytes,
    }


def _per_sample(emulated, num_samples, iterations):
    """Instructions of a sample and of a whole task; the cache of the frozen part makes the task's "times_fewer"."""
    frozen, trainable = (_a_call(emulated, part) for part in ("frozen_forward", "trainable_forward"))
    kind = "_estimate" if emulated.forward_is_estimated else ""
    steps = num_samples * iterations
    backward, update = (round(emulated.instructions[part] / steps) for part in ("backward", "update"))
    passes = whole_passes(emulated, num_samples, iterations)
    cached = num_samples * frozen + passes * trainable + num_samples * ITERATIONS * (backward + update)
    saved = (passes - num_samples) * frozen
    return {
        f"frozen_forward{kind}": frozen,
        f"trainable_forward{kind}": trainable,
        "selection": emulated.instructions["selection"],
        "backward_a_sample": backward,
        "update_a_sample": update,
        "task": cached,
        "task_without_frozen_cache": cached + saved,
        "times_fewer": 1 + saved / cached,
    }


def _a_call(emulated, part):
    """Instructions of one forward pass, openings of its interpreter included; 0 where the part is not there."""
    return round(emulated.instructions[part] / max(1, emulated.calls[part]))


def _accuracy(logits, labels):
    return float(np.mean(logits.argmax(axis=1) == labels))


def _lines(rows):
    """(name, figure of each method) for every figure, those by part line by line."""
    for key, value in rows[0].items():
        if key == "layers":
            yield (key, *(" ".join(f"{name}:{count}" for name, count in row[key].items()) or "all" for row in rows))
        elif isinstance(value, dict):
            for part in value:
                yield (f"{key} {part}", *(f"{row[key][part]:,}" for row in rows))
        elif isinstance(value, list):
            yield (key, *(" to ".join(f"{each:.3f}" for each in row[key]) for row in rows))
        elif key != "method":
            yield (key, *(f"{row[key]:,.4g}" if isinstance(row[key], float) else f"{row[key]:,}" for row in rows))
