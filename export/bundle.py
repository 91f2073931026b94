"""Export a firmware bundle: everything that a sketch needs to train a model on the device, in one folder."""

import os

import keras
import numpy as np

from keras_tinytrain.export._writing import write
from keras_tinytrain.export.adaptive import Candidates
from keras_tinytrain.export.boards import Board
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.files import render_files
from keras_tinytrain.export.remedy import advice
from keras_tinytrain.export.request import check
from keras_tinytrain.export.rungs import within_time
from keras_tinytrain.export.settings import TrainingSettings
from keras_tinytrain.export.settled import settled
from keras_tinytrain.plan import Budget, Plan


def export_tflm(
    model: keras.Model,
    plan: Plan | Candidates,
    *,
    calibration: np.ndarray | None = None,
    out: str | os.PathLike,
    board: str | Board | None = None,
    head: str | None = None,
    training: TrainingSettings | None = None,
    views: tuple[tuple[int, ...], ...] | None = None,
    split: bool = True,
    weights_in_ram: str = "cheapest",
    features: str | None = None,
    sketch: str = "serial",
    project: str = "arduino",
    overwrite: bool = False,
    reject_unknown: float | None = None,
    budget: Budget | None = None,
) -> Bundle:
    """Export `model` as a firmware bundle, to be trained on the device as `plan` says.

    What is None here is as the plan's `DeviceSettings` say. A plan without them means `DeviceSettings()`: a Nano 33 BLE, no views,
    features in RAM, and `TrainingSettings()`; and the softmax or the sigmoid that ends the model as the head, else prototypes.

    The steps are values that can be printed: `check` makes a request of the arguments, `convert` the int8 models, `lay_out`
    gives everything its bytes, `render_files` makes the files.

    Args:
        model: a built Functional or Sequential model with one input. BatchNorm is folded first; a softmax at its end is removed,
            the device computes it. Or a quantisation-aware model of tensorflow-model-optimization: its ranges are kept, and the
            plan names the layers that it wraps.
        plan: layers and channels to train; or `Candidates`, among which the device chooses for each task.
        calibration: (N, ...) representative inputs in the model's own convention; a hundred are plenty. A quantisation-aware
            model needs none.
        out: the folder to write. Its name is the bundle's name.
        board: one of `BOARDS`, or a `Board`.
        head: "prototypes": the model's output is an embedding, and a sample belongs to the class whose mean embedding has the
            largest cosine similarity. "ridge": the same, beside a closed-form head, which answers once it is solved (`HostRuntime.solve`,
            SOLVE) or trained; it reads pooled maps of the trainable part (`model.maps`). "softmax" or "logits": the model's output
            is one probability or one logit per class. "sigmoid": it is one unit for two classes, which the device trains as two
            logits. "auto": whichever of these the model is, see `model.head_kind`. Of an embedding it is "ridge" and "prototypes"
            in one where the board has room, and the device answers by the one that gets more of its samples right, each left out
            in turn, as `adapt(head="auto")` does. A classifier that `adapt` made knows its own: `head=learned.head`.
        training: how the device trains. It replaces all that the plan says of that, except the number of classes where it has
            none.
        views: (shift down, shift right) in pixels of augmented copies that are made of each sample, or (shift down, shift right,
            mirrored), as `shift_views` takes them.
        split: cut the model in two at the latest tensor through which everything flows before the first trained layer, so that
            the frozen part runs once per sample. False: one model, which is run as a whole in each iteration; the samples that
            are kept are then images.
        weights_in_ram: which weights RAM holds of a layer that is trained in part. "whole": all; "selected": those of the
            trained channels, which become a convolution of their own; "cheapest": layer by layer, the one that takes fewer
            bytes in all. What is learned is the same, bit for bit. With `Candidates`, RAM holds each chosen layer in full.
        features: where the device keeps the frozen part's output for each sample and its views: "ram" or "flash".
        sketch: the source of the sketch's samples. "serial": the port over which it is told what to do; "imu": the motion
            sensor of a Nano 33 BLE Sense, for a model that takes (steps, 1, 6) in the units of `motion.network_motion`; "camera":
            an OV767X or an ESP32's camera. Its picture takes 19,200 B of RAM (38,400 B in colour; on an ESP32 none).
        project: the build system that the example in TinyTrain.zip is for: "arduino", "platformio", "esp-idf", "zephyr" or
            "cmake".
        overwrite: replace the files of a bundle that is there already. Other files in its folder, such as deltas, stay.
        reject_unknown: with head="ridge": the device answers "unknown" to samples of no class, and this is the fraction of them
            that may be taken for one, below 0.5 (`FewShotClassifier.reject_unknown` has the rule). With `num_classes=1` it tells
            what is normal from all else. It takes as many bytes as one more solution. 0: every sample is of a class.
        budget: `Budget(time="10s")`: the most training that fits this time on the board, in place of a number of iterations: 40,
            20, 10 or 5 of them, else the closed-form head or the prototypes alone (0 iterations). A head that was named is kept,
            and where the device chooses, the slower one fits. The seconds are the promised ones (`export.rungs`), and a line
            says them. None: as the plan's budget says.

    Returns:
        The bundle. It is written as a whole or, if anything fails, not at all.

    Raises:
        ValueError: the model cannot be trained on the device (the layer is named), or does not fit the board (the
            largest parts are named, and settings with which it fits), or nothing fits the time.
        FileExistsError: `out` exists, and is no bundle or may not be overwritten.
        ImportError: tflite-micro is not installed.

    Example:
        >>> bundle = export_tflm(model, plan, calibration=x_train[:100], out="build/faces")  # doctest: +SKIP
        >>> bundle.promised_bytes["sram"]["total"]  # doctest: +SKIP
        181216
    """
    asked = check(
        model,
        plan,
        calibration=calibration,
        out=out,
        board=board,
        head=head,
        training=training,
        views=views,
        split=split,
        weights_in_ram=weights_in_ram,
        features=features,
        sketch=sketch,
        project=project,
        overwrite=overwrite,
        reject_unknown=reject_unknown,
        budget=budget,
    )
    request, converted, layout = within_time(*settled(asked))
    layout.check_fits(lambda: advice(request, converted, layout))
    return write(render_files(request, converted, layout), request.out, replaces=request.replaces)
