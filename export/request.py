"""Step 1 of an export: is what the user asks for possible? All options, checked, as one value."""

import dataclasses
import math
import os
import pathlib
import typing

import keras
import numpy as np

from keras_tinytrain._kinds import check_kind
from keras_tinytrain.device_settings import AUTO, DeviceSettings
from keras_tinytrain.export._project import camera_frame_bytes
from keras_tinytrain.export._workplace import bundle_to_replace
from keras_tinytrain.export.adaptive import Candidates
from keras_tinytrain.export.boards import Board
from keras_tinytrain.export.boards import board as find_board
from keras_tinytrain.export.head import CLOSED_FORM, closed_form_maps, head_on_device
from keras_tinytrain.export.settings import PROJECTS, SKETCHES, WEIGHTS_IN_RAM, TrainingSettings
from keras_tinytrain.export.tflite import qat
from keras_tinytrain.model.channels import find_weights
from keras_tinytrain.model.ending import ending
from keras_tinytrain.model.head_kind import KINDS
from keras_tinytrain.model.maps import in_time
from keras_tinytrain.plan import Budget, Plan
from keras_tinytrain.tflm_runtime.headers import names
from keras_tinytrain.views import checked_views

ENDS_IN_SOFTMAX = (
    "Model '{}' ends in a softmax, but head='prototypes' takes embeddings. Pass keras.Model(model.input, model.layers[-2].output), "
    'or head="softmax".'
)
HEADS = tuple(names("tinytrain_tables.h", "Head"))
_CHOICES = {
    "head": tuple(dict.fromkeys((*HEADS, CLOSED_FORM, *KINDS, "auto"))),
    "weights_in_ram": tuple(WEIGHTS_IN_RAM),
    "features": ("ram", "flash"),
    "sketch": SKETCHES,
    "project": PROJECTS,
}


@dataclasses.dataclass(frozen=True, eq=False)
class ExportRequest:
    """What to export, checked: the arguments of `export_tflm`, in one form each.

    Args:
        model: in canonical form, up to the embedding or the logits; a quantisation-aware model as it was passed.
        layer_names: of the model that was passed, in execution order.
        plan: the channels to train, or all channels of all candidates.
        without_bias: names of its layers that had no bias in the model that was passed, where training leaves a folded norm alone.
        candidates: what the device chooses from; None where the plan is decided.
        replaces: the manifest of the bundle at `out` that is replaced; None where nothing is there.
        asked: training as the caller says it, with num_classes set; `training` has the rest.
        views: (shift down, shift right, mirrored) each.
        device: all of this that a plan carries.
        maps: names of the layers that a closed-form head reads beside the embedding; None where the bundle has none.
        seconds: in which the board learns a task; None where nobody says.
        chooses: whether the device chooses between a closed-form head and prototypes by its own samples.
        stores_maps: whether stored samples hold the maps that the frozen part can compute. If not, the trainable part begins at the
            first of them, and each of its passes also runs the frozen layers behind that map.
    """

    model: keras.Model
    layer_names: tuple[str, ...]
    plan: Plan
    without_bias: frozenset[str]
    candidates: Candidates | None
    calibration: np.ndarray | None
    out: pathlib.Path
    replaces: bytes | None
    board: Board
    head: str
    asked: TrainingSettings
    views: tuple[tuple[int, int, bool], ...]
    split: bool
    weights_in_ram: str
    features: str
    sketch: str
    project: str
    device: DeviceSettings
    maps: tuple[str, ...] | None = None
    seconds: float | None = None
    chooses: bool = False
    stores_maps: bool = False

    @property
    def training(self) -> TrainingSettings:
        """As the device trains, for the closed-form head where there is one."""
        return self.asked.for_head(self.head if self.maps is None else CLOSED_FORM)

    @property
    def prototype_training(self) -> TrainingSettings | None:
        """`training` where prototypes answer beside a closed-form head; None where only one of them can."""
        if not self.chooses:
            return None
        return self.asked.for_head("prototypes", chosen=True, in_time=in_time(self.model.input_shape[1:-1]))

    def with_first_map(self) -> "ExportRequest | None":
        """This request with a closed-form head that reads the first map alone; None where it does, has none, or maps were named."""
        if self.maps is None or len(self.maps) < 2 or self.device.maps:
            return None
        return dataclasses.replace(self, maps=self.maps[:1]).with_device(dataclasses.replace(self.device, maps=self.maps[:1]))

    def with_prototypes(self) -> "ExportRequest":
        """This request, that chooses, for a device that has prototypes alone."""
        alone = dataclasses.replace(self, chooses=False, maps=None, stores_maps=False)
        return alone.with_device(dataclasses.replace(self.device, head="prototypes"))

    @property
    def rejects(self) -> bool:
        """Whether a closed-form head tells samples of no class."""
        return self.maps is not None and self.device.reject_unknown > 0

    @property
    def adaptive(self) -> bool:
        """Whether the device chooses what to train."""
        return self.candidates is not None

    def with_device(self, device: DeviceSettings) -> "ExportRequest":
        """This request for a device of other settings; its board and its head stay."""
        plan = self.plan if self.plan.device is None else dataclasses.replace(self.plan, device=device)
        return dataclasses.replace(
            self,
            plan=plan,
            asked=self.asked.on(device),
            views=device.views,
            features=device.features,
            device=device,
        )

    def __str__(self) -> str:
        channels = sum(len(layer.channels) for layer in self.plan.layers)
        chosen = "to choose from" if self.adaptive else "to train"
        return (
            f"Export model '{self.model.name}' for board {self.board.name} to {self.out}\n"
            f"  {channels} channels of {len(self.plan.layers)} layers {chosen}, head {self.device.head!r}, {len(self.views)} views\n"
            f"  {self.training.max_samples} samples of {self.training.num_classes} classes, features in {self.features}"
        )


def check(
    model: keras.Model,
    plan: Plan | Candidates,
    *,
    calibration: np.ndarray | None,
    out: str | os.PathLike,
    board: str | Board | None,
    head: str | None,
    training: TrainingSettings | None,
    views: tuple[tuple[int, ...], ...] | None,
    split: bool,
    weights_in_ram: str,
    features: str | None,
    sketch: str,
    overwrite: bool,
    project: str = "arduino",
    reject_unknown: float | None = None,
    budget: Budget | None = None,
    canonical: keras.Model | None = None,
) -> ExportRequest:
    """The request that the arguments of `export_tflm` make, with the plan's settings for those that are None. Raises as it does.

    `canonical` is `fold_batch_norm(model)`, where it is there already.
    """
    if not isinstance(plan, (Plan, Candidates)):
        none = " A classifier that was reverted has no plan." if plan is None else ""
        raise ValueError(f"plan expects a Plan, such as adapt(...).plan, or Candidates. Received: {plan!r}{none}")
    seconds = _seconds(budget, plan, training)
    planned, training = plan.device or DeviceSettings(), _training(plan.device, training)
    folder, target = pathlib.Path(out), find_board(planned.board if board is None else board)
    if planned.kernels:
        target = dataclasses.replace(target, kernels=planned.kernels)
    asked = planned.head if head is None else head
    head = _unsaid_head(model, asked) if head is None else head
    features = planned.features if features is None else features
    chosen = {"head": head, "weights_in_ram": weights_in_ram, "features": features, "sketch": sketch, "project": project}
    for name, value in chosen.items():
        if value not in _CHOICES[name]:
            raise ValueError(f"{name} expects one of {', '.join(_CHOICES[name])}. Received: {value!r}")
    _check_kernels(plan)
    if training.only_if_needed and head != CLOSED_FORM:
        raise ValueError(f"only_if_needed=True asks the solution of head={CLOSED_FORM!r}. Received: head={head!r}")
    replaces = bundle_to_replace(folder, overwrite=overwrite)
    canonical, plan, kind = head_on_device(model, plan, head, training.num_classes, calibration, canonical)
    chooses = asked == AUTO and kind == "prototypes" and not qat.is_tf_keras(model)
    maps = closed_form_maps(canonical, planned.maps) if chooses or head == CLOSED_FORM else None
    head = AUTO if chooses else head
    num_outputs = math.prod(canonical.output_shape[1:])
    _check_features(features, target)
    _check_sketch(sketch, project, canonical.input_shape[1:])
    candidates = _checked_candidates(plan, canonical)
    decided = candidates.plan(canonical) if candidates else typing.cast(Plan, plan)
    request = ExportRequest(
        model=canonical,
        layer_names=tuple(qat.layer_names(model) if qat.is_tf_keras(model) else (layer.name for layer in canonical.layers)),
        plan=decided,
        without_bias=_without_bias(model, decided),
        candidates=candidates,
        calibration=calibration,
        out=folder,
        replaces=replaces,
        board=_beside_camera(target, canonical.input_shape[-1]) if sketch == "camera" else target,
        head=kind,
        asked=_with_classes(training, kind, num_outputs),
        views=checked_views(planned.views if views is None else views),
        split=split,
        weights_in_ram=weights_in_ram,
        features=features,
        sketch=sketch,
        project=project,
        device=planned,
        maps=maps,
        seconds=seconds,
        chooses=chooses,
    )
    rate = planned.reject_unknown if reject_unknown is None else reject_unknown
    _check_rate(rate, head, request.training)
    return request.with_device(dataclasses.replace(_as_asked(request, board, head), reject_unknown=rate))


def _seconds(budget: Budget | None, plan: Plan | Candidates, training: TrainingSettings | None) -> float | None:
    """The time limit: the caller's; else the plan's, unless the caller says the number of iterations."""
    said = training is not None and training.iterations is not None
    if budget is None:
        return None if said or plan.budget is None else plan.budget.seconds
    if budget.memory is not None or budget.time is None:
        raise ValueError(
            f"export_tflm(budget=...) expects Budget(time=...) alone: what memory and compute allow is chosen in the plan. Received: {budget}"
        )
    if said:
        raise ValueError(
            "Expected a number of iterations or a time that decides it, not both. Received: "
            f"TrainingSettings(iterations={typing.cast(TrainingSettings, training).iterations}) and Budget(time={budget.time!r})"
        )
    return budget.seconds


def _check_rate(rate: float, head: str, training: TrainingSettings) -> None:
    check_kind("reject_unknown", rate, float)
    if not 0 <= rate < 0.5:
        raise ValueError(f"reject_unknown expects a rate from 0, below 0.5. Received: {rate}")
    if rate and head != CLOSED_FORM:
        raise ValueError(f"reject_unknown={rate} goes with head='ridge'. Received: head={head!r}")
    if rate and not (training.average > 0 and typing.cast(int, training.num_classes) < 255):
        raise ValueError(
            "reject_unknown expects TrainingSettings(average=...) above 0, since the original network judges, and at most 254 classes, "
            f"which leave a label for samples of none. Received: average={training.average} and {training.num_classes} classes"
        )


def _unsaid_head(model: keras.Model, planned: str) -> str:
    """As the plan's device has it; where that is "auto", what ends the model."""
    if planned != AUTO:
        return planned
    return (None if qat.is_tf_keras(model) else ending(model)) or "prototypes"


def _without_bias(model: keras.Model, plan: Plan) -> frozenset[str]:
    if qat.is_tf_keras(model):
        return frozenset()
    return frozenset(layer.name for layer in plan.layers if not find_weights(model, layer.name).has_bias)


def _as_asked(request: ExportRequest, board: str | Board | None, head: str) -> DeviceSettings:
    """The plan's settings after all that the caller said otherwise."""
    training, name = request.training, request.device.board if board is None else board
    return dataclasses.replace(
        request.device,
        board=name.name if isinstance(name, Board) else str(name),
        max_samples=training.max_samples,
        num_classes=typing.cast(int, training.num_classes),
        head=head,
        optimizer=training.optimizer,
        weights=training.weights,
        features=request.features,
        views=request.views,
    )


def _check_kernels(plan: Plan | Candidates) -> None:
    alone = [layer.name for layer in plan.layers if not layer.kernel] if isinstance(plan, Plan) else []
    if alone:
        raise ValueError(
            f"The device trains a channel's kernel and bias, and the plan trains the biases alone of {', '.join(alone[:10])}: plan "
            "LayerPlan(name, channels) without kernel=False, or choose by another strategy than 'bias'."
        )


def _check_features(features: str, board: Board) -> None:
    if features == "flash" and not board.flash_page_bytes:
        raise ValueError(
            f"features='flash' needs to know what an erase clears on board {board.name!r}: set Board.flash_page_bytes, "
            "if tinytrain_board_flash.h has a driver for the board."
        )


def _check_sketch(sketch: str, project: str, input_shape: tuple[int, ...]) -> None:
    if sketch != "serial" and project not in ("arduino", "platformio"):
        raise ValueError(
            f"sketch={sketch!r} is written for Arduino's libraries, so project expects 'arduino' or 'platformio'. Received: {project!r}"
        )
    if sketch == "camera" and input_shape[2:] not in ((1,), (3,)):
        raise ValueError(
            f"sketch='camera' needs a model that takes grey or colour images. Received a model that takes {input_shape}."
        )
    if sketch == "imu" and input_shape[1:] not in ((1, 6), (6,), (6, 1)):
        raise ValueError(
            f"sketch='imu' needs a model that takes windows (steps, 1, 6). Received a model that takes {input_shape}."
        )


def _beside_camera(board: Board, channels: int) -> Board:
    """The board without the RAM that a picture takes; an ESP32's lies in PSRAM."""
    if board.cpu.startswith("Xtensa"):
        return board
    return dataclasses.replace(board, reserved_sram_bytes=board.reserved_sram_bytes + camera_frame_bytes(channels))


def _checked_candidates(plan: Plan | Candidates, canonical: keras.Model) -> Candidates | None:
    """The candidates that were passed as `plan`; None where it is a plan."""
    if not isinstance(plan, Candidates):
        return None
    if qat.is_tf_keras(canonical):
        raise ValueError("Candidates expect a Keras 3 model: of a quantisation-aware one, export a plan.")
    return plan


def _training(planned: DeviceSettings | None, training: TrainingSettings | None) -> TrainingSettings:
    """As the caller says, else as the plan does; the number of classes is the plan's where the caller says none."""
    if planned is None:
        return training or TrainingSettings()
    if training is None:
        return TrainingSettings().on(planned)
    return dataclasses.replace(training, num_classes=training.num_classes or planned.num_classes)


def _with_classes(training: TrainingSettings, head: str, num_outputs: int) -> TrainingSettings:
    num_classes = training.num_classes or (num_outputs if head == "softmax" else 5)
    if head == "softmax" and num_classes != num_outputs:
        raise ValueError(
            f"head='softmax' expects a model with one value for each class. Received: one with {num_outputs} values, for "
            f"{num_classes} classes. Of a backbone, whose values are an embedding, pass head='prototypes'; of a "
            "classifier of other classes, pass its backbone, on the command line --without-head."
        )
    return dataclasses.replace(training, num_classes=num_classes)
