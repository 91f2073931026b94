"""Export a firmware bundle: everything that a sketch needs to train a model on the device, in one folder."""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import shutil
import tempfile

import keras
import numpy as np

from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.export import arduino
from keras_tinytrain.export.adaptive import Candidates, Room, divide
from keras_tinytrain.export.backward.graph import read_trainable
from keras_tinytrain.export.backward.memory import delta_bytes, feature_flash_bytes, training_memory
from keras_tinytrain.export.backward.selected import choose_split
from keras_tinytrain.export.boards import Board
from keras_tinytrain.export.boards import board as find_board
from keras_tinytrain.export.bundle_folder import MANIFEST, SCHEMA_VERSION, Bundle
from keras_tinytrain.export.limits import check_fits, flash_bytes, what_would_fit
from keras_tinytrain.export.settings import TrainingSettings
from keras_tinytrain.export.tables import identifier, image_input, render, render_sources, tables_bytes
from keras_tinytrain.export.tflite import qat
from keras_tinytrain.export.tflite.arena import smallest_arena
from keras_tinytrain.export.tflite.convert import convert_int8, is_softmax, without_softmax
from keras_tinytrain.export.tflite.cut import cut_model
from keras_tinytrain.export.tflite.flatbuffer import operator_names
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.plan import Plan
from keras_tinytrain.tflm_runtime.rounding import whole_pages
from keras_tinytrain.views import checked_views

_HEADS = ("prototypes", "softmax")
_SKETCHES = ("serial", "imu")
_ENDS_IN_SOFTMAX = (
    "Model '{}' ends in a softmax, but head='prototypes' takes embeddings. Pass keras.Model(model.input, model.layers[-2].output), "
    'or head="softmax".'
)
_WEIGHTS_IN_RAM = {"cheapest": None, "selected": True, "whole": False}


def export_tflm(
    model: keras.Model,
    plan: Plan | Candidates,
    *,
    calibration: np.ndarray | None = None,
    out: str | os.PathLike,
    board: str | Board = "nano33ble",
    head: str = "prototypes",
    training: TrainingSettings = TrainingSettings(),
    views: tuple[tuple[int, ...], ...] = (),
    split: bool = True,
    weights_in_ram: str = "cheapest",
    features: str = "ram",
    sketch: str = "serial",
    overwrite: bool = False,
) -> Bundle:
    """Export `model`, to be trained on the device as `plan` says, as a firmware bundle.

    Args:
        model: a built Functional or Sequential model with one input. BatchNorm is folded first; a softmax at its end is left
            away, the device computes it. Or a quantisation-aware model of tensorflow-model-optimization, as it is: its ranges are
            kept, and the plan speaks of the layers that it wraps.
        plan: layers and channels to train; or `Candidates`, among which the device chooses for each task.
        calibration: (N, ...) representative inputs in the model's own convention; a hundred are plenty. Not needed
            for a quantisation-aware model.
        out: the folder to write; its name names the bundle.
        board: one of `BOARDS`, or a `Board`.
        head: "prototypes": the model's output is an embedding, classes are told apart by cosine similarity to the mean
            embedding of their samples. "softmax": the model's output is one logit per class.
        training: how the device trains.
        views: (shift down, shift right) in pixels of augmented copies that are made of each sample, or (shift down, shift right,
            mirrored), as `shift_views` takes them.
        split: cut the model in two at the latest tensor through which everything flows before the first trained layer, so that
            what lies before it runs once per sample. False: one model, which is run as a whole in each iteration; the samples
            that are kept are then images.
        weights_in_ram: of a layer of which some channels are trained, RAM holds "whole": all weights; "selected": those of the
            trained channels, which become a convolution of their own; "cheapest": what takes fewer bytes in all, layer by layer.
            What is learned is the same, bit for bit. Of candidates RAM holds the chosen layers whole.
        features: where the device keeps what the frozen part made of each sample and its views: "ram" or "flash".
        sketch: where the sketch has its samples from: "serial", the port over which it is told what to do; or "imu", the motion
            sensor of a Nano 33 BLE Sense, for a model that takes (steps, 1, 6) in the units of `motion.network_motion`.
        overwrite: replace a bundle that is there already.

    Returns:
        The bundle. Written as a whole or, if anything fails, not at all.

    Raises:
        ValueError: the model cannot be trained on the device (the layer is named), or does not fit the board (the
            largest parts are named, and the budget to plan with again).
        FileExistsError: `out` exists, and is no bundle or may not be overwritten.
        ImportError: tflite-micro is not installed.

    Example:
        >>> bundle = export_tflm(model, plan, calibration=x_train[:100], out="build/faces")  # doctest: +SKIP
        >>> bundle.promised_bytes["sram"]["total"]  # doctest: +SKIP
        181216
    """
    out, target = pathlib.Path(out), find_board(board)
    if not isinstance(plan, (Plan, Candidates)):
        raise ValueError(f"plan expects a Plan, such as adapt(...).plan, or Candidates. Received: {plan!r}")
    if weights_in_ram not in _WEIGHTS_IN_RAM:
        raise ValueError(f"weights_in_ram expects one of {', '.join(_WEIGHTS_IN_RAM)}. Received: {weights_in_ram!r}")
    _check_free(out, overwrite)
    _check_head(head)
    canonical = model if qat.is_tf_keras(model) else _canonical(model, head)
    training = _with_classes(training, head, math.prod(canonical.output_shape[1:]))
    _check_features(features, target)
    _check_sketch(sketch, canonical.input_shape[1:])
    views = checked_views(views)
    candidates = _checked_candidates(plan, canonical)
    plan = plan if candidates is None else candidates.plan(canonical)
    whole = _converted(canonical, head, calibration)
    frozen, trainable, operators = cut_model(whole, canonical, plan, split=split)
    trainable, graph = read_trainable(trainable, operators, plan, adaptive=candidates is not None)
    frozen_arena = smallest_arena(frozen) if frozen else 0
    image = image_input(frozen or trainable)
    image_bytes = image["height"] * image["width"] * image["channels"]
    accounted = {"head": head, "image_bytes": image_bytes, "num_views": len(views), "features": features}
    scratch = training_memory(graph, training, **accounted)  # the same, whatever is split
    in_ram = ()
    if candidates is None:
        trainable, graph, in_ram = choose_split(
            trainable,
            graph,
            model_arena=lambda trainable_arena: scratch.model_arena(frozen_arena, trainable_arena),
            only=_WEIGHTS_IN_RAM[weights_in_ram],
        )
    memory = training_memory(graph, training, **accounted)
    arenas = {"frozen_arena": frozen_arena, "trainable_arena": smallest_arena(trainable)}
    sram, adaptive = memory.sram(**arenas), None
    room = Room(sram["model_arena"], memory.scratch_bytes, memory.state_bytes)
    largest_delta = delta_bytes(graph, training, head=head)
    if candidates is not None:
        sram_bytes = min(target.available_sram_bytes, candidates.budget.memory_bytes)
        affordable = candidates.affordable(canonical)
        room = divide(graph, training, affordable, sram_bytes=sram_bytes, **arenas, **accounted)
        sram, largest_delta = room.sram(memory.state["samples"]), largest_delta + room.arena_bytes
        adaptive = candidates.limits(canonical, room)
    stored = feature_flash_bytes(graph, training, num_views=len(views)) if features == "flash" else 0
    flash = flash_bytes(
        frozen,
        trainable,
        tables=tables_bytes(graph, num_views=len(views)),
        features=whole_pages(stored, target.flash_page_bytes),
        deltas=2 * whole_pages(largest_delta, target.flash_page_bytes),
    )
    accounting = DeviceAccounting(
        training.optimizer, training.weights, training.max_samples, len(views), training.num_classes, features
    )
    check_fits(target, sram, flash, remedy=what_would_fit(target, frozen_arena + memory.frozen["image"], accounting))

    base_hash = hashlib.sha256(whole).digest()
    sources = render_sources(
        graph,
        name=out.name,
        frozen=frozen,
        trainable=trainable,
        base_hash=base_hash,
        head=head,
        settings=training,
        views=views,
        arenas={
            **arenas,
            "model_arena": sram["model_arena"],
            "training_arena": room.arena_bytes,
            "scratch": room.scratch_bytes,
            "image_scratch": memory.frozen["image"],
            "page_bytes": target.flash_page_bytes,
            "feature_flash": flash["features"],
            "delta_flash": flash["deltas"],
        },
        adaptive=adaptive,
    )
    manifest = {
        "keras_tinytrain_bundle": SCHEMA_VERSION,
        "name": out.name,
        "namespace": identifier(out.name),
        "board": dataclasses.asdict(target),
        "base_hash": base_hash.hex(),
        "head": head,
        "input": image,
        "output": {field: getattr(graph.tensors[-1], field) for field in ("size", "scale", "zero_point")},
        "features": {"size": graph.tensors[0].size, "memory": features},
        "trained": {trained.name: len(trained.channels) for trained in graph.trained or graph.candidates},
        "adaptive": adaptive,
        "weights_in_ram": [dataclasses.asdict(choice) for choice in in_ram],
        "operators": sorted(operator_names(frozen) | operator_names(trainable)),
        "layers": qat.layer_names(model) if qat.is_tf_keras(model) else [layer.name for layer in canonical.layers],
        "training": dataclasses.asdict(training),
        "views": [list(view) for view in views],
        "sketch": sketch,
        "sram": sram,
        "arenas": arenas,
        "scratch": memory.scratch,
        "flash": flash,
        "activation_gradients_bound": graph.gradient_bytes_bound,
        "activation_gradients_whole": graph.gradient_bytes_whole,
    }
    files = {"trainable.tflite": trainable, "plan.json": plan.to_json().encode(), **_texts(sources, manifest)}
    if frozen:
        files["frozen.tflite"] = frozen
    _write(out, files, manifest)
    return Bundle.load(out)


def _checked_candidates(plan, canonical):
    """The candidates that were passed as `plan`; None where it is one."""
    if not isinstance(plan, Candidates):
        return None
    if qat.is_tf_keras(canonical):
        raise ValueError("Candidates expect a Keras 3 model: of a quantisation-aware one, export a plan.")
    return plan


def _check_head(head):
    if head not in _HEADS:
        raise ValueError(f"head expects one of {', '.join(_HEADS)}. Received: {head!r}")


def _converted(canonical, head, calibration):
    """The whole int8 model, up to the embedding or the logits."""
    if not qat.is_tf_keras(canonical):
        if calibration is None:
            raise ValueError(
                "calibration expects samples that show the model's ranges; only a quantisation-aware model knows them."
            )
        return convert_int8(canonical, calibration)
    whole = qat.convert_quantize_aware(canonical)
    if head == "prototypes" and qat.ends_in_softmax(whole):
        raise ValueError(_ENDS_IN_SOFTMAX.format(canonical.name))
    return qat.without_softmax(whole)


def _canonical(model, head):
    canonical = fold_batch_norm(model)
    if head == "prototypes" and is_softmax(canonical.layers[-1]):
        raise ValueError(_ENDS_IN_SOFTMAX.format(model.name))
    return without_softmax(canonical)


def _with_classes(training, head, num_outputs):
    num_classes = training.num_classes or (num_outputs if head == "softmax" else 5)
    if head == "softmax" and num_classes != num_outputs:
        raise ValueError(f"The model has {num_outputs} logits, but training.num_classes is {num_classes}.")
    return dataclasses.replace(training, num_classes=num_classes)


def _check_features(features, target):
    if features not in ("ram", "flash"):
        raise ValueError(f"features expects 'ram' or 'flash'. Received: {features!r}")
    if features == "flash" and not target.flash_page_bytes:
        raise ValueError(
            f"features='flash' needs to know what an erase clears on board {target.name!r}: set Board.flash_page_bytes, and "
            "see that ErasePage and WriteBlock of the sketch work there."
        )


def _check_sketch(sketch, input_shape):
    if sketch not in _SKETCHES:
        raise ValueError(f"sketch expects one of {', '.join(_SKETCHES)}. Received: {sketch!r}")
    if sketch == "imu" and input_shape[1:] not in ((1, 6), (6,), (6, 1)):
        raise ValueError(
            f"sketch='imu' needs a model that takes windows (steps, 1, 6). Received a model that takes {input_shape}."
        )


def _texts(sources, manifest):
    """Generated files; the sketch has the sources once more, because the Arduino IDE compiles its folder only."""
    texts = {**sources, "README.md": render("README.md.j2", **manifest)}
    texts = {name: text.encode() for name, text in texts.items()}
    sketch = {name: texts[name] for name in sources} | {"sketch.ino": render("sketch.ino.j2", **manifest).encode()}
    library = arduino.arduino_library(manifest["namespace"], sketch)
    return texts | {f"sketch/{name}": text for name, text in sketch.items()} | {arduino.FILE: library}


def _check_free(out, overwrite):
    if not out.exists():
        return
    if not (out / MANIFEST).is_file():
        raise FileExistsError(f"{out} exists and is no bundle: name another folder.")
    if not overwrite:
        raise FileExistsError(f"{out} is there already: pass overwrite=True to replace it.")


def _write(out, files, manifest):
    """Write all files beside `out` first, then move the folder into place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    text = json.dumps({**manifest, "files": digests}, indent=1) + "\n"
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for name, data in {**files, MANIFEST: text.encode()}.items():
            (scratch / "new" / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / "new" / name).write_bytes(data)
        _replace(out, scratch / "new", aside=scratch / "old")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _replace(out, new, *, aside):
    """Put `new` where `out` is; `out` comes back if that fails."""
    if not out.exists():
        new.rename(out)
        return
    out.rename(aside)
    try:
        new.rename(out)
    except OSError:
        aside.rename(out)
        raise
