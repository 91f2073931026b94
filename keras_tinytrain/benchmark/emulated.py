"""`keras-tinytrain benchmark emulated`: bytes and instructions of real networks on an emulated Cortex-M4F.

Training is emulated for a few iterations, since all take nearly the same instructions; a whole task's are computed from them.
"""

import argparse
import dataclasses
import json
import pathlib
import tempfile

import numpy as np

from keras_tinytrain import backbones, cost, selection
from keras_tinytrain.benchmark.text import aligned
from keras_tinytrain.domains import load_npz, resize
from keras_tinytrain.export import TrainingSettings, board, export_tflm
from keras_tinytrain.export.emulator import INSTRUCTIONS_PER_MAC, emulate_task
from keras_tinytrain.export.macs import forward_macs
from keras_tinytrain.fewshot.adapt import adapt
from keras_tinytrain.fewshot.episodes import sample_episode
from keras_tinytrain.layers import layer_table
from keras_tinytrain.plan import Budget

WAYS, SHOTS, ITERATIONS = 5, 5, 40
NETWORKS = {  # network, side of its images, backward MACs of the paper's budget
    "mcunet": (backbones.MCUNet, 128, 6.51e6),
    "proxylessnas": (backbones.ProxylessNASNet, 128, 5.00e6),
    "mobilenet_v2": (backbones.MobileNetV2, 96, 4.90e6),
}


def run(args: argparse.Namespace) -> int:
    """Emulate each method on one task and print its figures. Returns 0."""
    rows = [emulate_method(args.backbone, args.domain, method, args) for method in args.methods]
    if args.json:
        print(json.dumps(rows))
    else:
        print(aligned([("", *(row["method"] for row in rows)), *_lines(rows)]))
    return 0


def emulate_method(backbone, domain, method, args) -> dict:
    """Figures of one method on one task; see the keys."""
    build, side, macs = NETWORKS[backbone]
    model = build((side, side, 3), weights=args.weights)
    x, y = _task(load_npz(domain, size=None), side, args.seed)
    target = dataclasses.replace(board("nano33ble"), name=f"nano33ble with {args.sram_kb} KB", sram_bytes=args.sram_kb << 10,
                                 flash_bytes=max(board("nano33ble").flash_bytes, 3 << 20), reserved_sram_bytes=0)
    plan = _plan(model, x, y, method, Budget(args.memory, macs))
    settings = TrainingSettings(iterations=args.iterations, num_classes=WAYS, max_samples=len(x), optimizer=args.optimizer)
    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder:
        out = pathlib.Path(folder, "bundle")
        bundle = export_tflm(model, plan, calibration=x, out=out, board=target, training=settings)
        task = emulate_task(bundle, x, y)
        prefix, tail = (round(forward_macs(part) * INSTRUCTIONS_PER_MAC) for part in (bundle.frozen, bundle.trainable))
    steps = len(x) * args.iterations
    backward, update = round(task.instructions["backward"] / steps), round(task.instructions["update"] / steps)
    passes = len(x) * (2 * ITERATIONS + 1)  # of the tail: prototypes and queries each iteration, prototypes at the end
    cached = len(x) * prefix + passes * tail + len(x) * ITERATIONS * (backward + update)
    choice, table = cost.num_channels(plan), layer_table(model)
    return {
        "method": method,
        "trained_weights": cost.num_trained_weights(table, choice),
        "backward_macs": cost.backward_macs(table, choice),
        "sram_bytes": task.sram_bytes,
        "flash_bytes": task.flash_bytes,
        "stack_bytes": task.stack_bytes,
        "heap_bytes": task.heap_bytes,
        "prefix_forward_estimate": prefix,
        "tail_forward_estimate": tail,
        "backward_a_sample": backward,
        "update_a_sample": update,
        "task": cached,
        "task_without_cached_prefix": cached + (passes - len(x)) * prefix,
        "losses": [task.losses[0], task.losses[-1]],
    }


def _task(domain, side, seed):
    episode = sample_episode(domain, ways=WAYS, shots=SHOTS, rng=np.random.default_rng([seed, 0]))
    images = resize(episode.support_x, side, side)
    return backbones.preprocess_input(255 * images), episode.support_y


def _plan(model, x, y, method, budget):
    if method == "full":
        return selection.full_plan(layer_table(model))
    return adapt(model, x, y, budget=budget, iterations=1).plan


def _lines(rows):
    """(name, figure of each method) for every figure, those by part line by line."""
    for key, value in rows[0].items():
        if isinstance(value, dict):
            for part in value:
                yield (f"{key} {part}", *(f"{row[key][part]:,}" for row in rows))
        elif isinstance(value, list):
            yield (key, *(" to ".join(f"{each:.3f}" for each in row[key]) for row in rows))
        elif key != "method":
            yield (key, *(f"{row[key]:,}" for row in rows))
