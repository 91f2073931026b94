"""`profile`: which boards could train a model, what they would train, and what it takes, on one page."""

import dataclasses
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.planner import choose, summed_cross_entropy
from keras_tinytrain.choose.protocols import Loss
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.device_settings import AUTO, DeviceSettings
from keras_tinytrain.export.boards import BOARDS, board
from keras_tinytrain.export.layout import Layout
from keras_tinytrain.export.planning import Rehearsal, rehearse
from keras_tinytrain.fewshot.task_loss import classifier_and_loss, device_head
from keras_tinytrain.model.ending import num_outputs
from keras_tinytrain.model.head_kind import head_kind
from keras_tinytrain.model.layers import LayerTable, layer_table
from keras_tinytrain.plan import Budget, Plan

_ChooseFor = Callable[[str, DeviceAccounting, Mapping[str, str]], Plan]  # a board's name, then as `export.planning.Choose`
_WIDTH = 80
_SHOTS, _WAYS = 5, 5  # where there are no samples
_ANSWERS = {
    AUTO: "A closed-form head answers, or the prototypes, whichever the samples favour.",
    "ridge": "A closed-form head answers.",
    "prototypes": "The prototypes answer.",
    "softmax": "Its own head answers.",
}
_NO_SAMPLES = "By the norm of the weights, as there are no samples: profile(model, x, y), or --samples, asks a task of yours."


@dataclasses.dataclass(frozen=True, eq=False)
class BoardProfile:
    """A model on one board.

    Args:
        board: its name.
        processor: core and clock.
        plan: what it would train; None where nothing fits.
        layout: where the export would lay everything; None where nothing fits.
        reason: why nothing fits; "" where it does.
    """

    board: str
    processor: str
    plan: Plan | None = None
    layout: Layout | None = None
    reason: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Profile:
    """What `profile` found. `print` shows one page of text.

    Args:
        table: the model's layers.
        device: samples and classes that each board would keep.
        has_samples: whether layers were chosen by samples of a task.
        boards: one for each board that was asked for.
    """

    table: LayerTable
    device: DeviceSettings
    has_samples: bool
    boards: tuple[BoardProfile, ...]

    def __str__(self) -> str:
        return "\n".join([*self._model(), *(line for each in self.boards for line in self._on_board(each))])

    def to_json(self) -> dict[str, Any]:
        """The same as plain values; bytes by part."""
        return {
            "model": self.table.model_name,
            "weights": sum(row.num_weights for row in self.table),
            "forward_macs": sum(row.macs for row in self.table),
            "boards": {each.board: self._values(each) for each in self.boards},
        }

    def _model(self) -> Iterator[str]:
        weights, macs = sum(row.num_weights for row in self.table), sum(row.macs for row in self.table)
        shapes = " -> ".join(" x ".join(map(str, shape)) for shape in (self.table[0].output_shape, self.table[-1].output_shape))
        yield f"{self.table.model_name}: {shapes}, {weights:,} weights, {macs:,} multiply-accumulates a sample."
        yield f"A task: {self.device.max_samples} samples of {self.device.num_classes} classes, kept in RAM."
        if not self.has_samples:
            yield from textwrap.wrap(_NO_SAMPLES, _WIDTH)

    def _on_board(self, each: BoardProfile) -> Iterator[str]:
        yield f"\n{each.board}, {each.processor}"
        if each.plan is None or each.layout is None:
            told = f"Nothing can be trained here. {each.reason}"
        else:
            choice = paper_cost.num_channels(each.plan)
            layers = ", ".join(f"{name} {count} of {self.table[name].num_channels}" for name, count in choice.items())
            weights = paper_cost.num_trained_weights(self.table, choice)
            told = f"Trains {weights:,} weights, channels: {layers}. {_ANSWERS[_head(each.plan)]} {each.layout.in_short}"
        yield from textwrap.wrap(told, _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)

    def _values(self, each: BoardProfile) -> dict[str, Any]:
        if each.plan is None or each.layout is None:
            return {"fits": False, "reason": each.reason}
        choice = paper_cost.num_channels(each.plan)
        weights = paper_cost.num_trained_weights(self.table, choice)
        sizes = {"sram": each.layout.sram, "flash": each.layout.flash}
        return {
            "fits": True,
            "trained": choice,
            "weights": weights,
            "head": _head(each.plan),
            "told": each.layout.in_short,
            **sizes,
        }


def profile(
    model: keras.Model,
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    *,
    boards: Sequence[str] = tuple(BOARDS),
    compute: float = Budget.compute,
    head: str = "auto",
) -> Profile:
    """Which boards could train `model`, what they would train, in how many bytes and how long.

    The model is converted to int8 once, and laid out for each board as an export would. Nothing is written.

    Args:
        model: a built Functional or Sequential model, a classifier or a backbone; not changed.
        x, y: labelled samples (N, ...) and (N,) of a task, by which layers are chosen. None: by the norm of their weights, for
            5 samples of each class, 5 classes where the model is a backbone.
        boards: names of `export.BOARDS`, or paths of .toml files that describe one.
        compute: limit of the backward pass, as for `Budget`.
        head: what the model's output stands for, see `fewshot.head_for`; "auto" of an embedding as for `export_tflm`.

    Raises:
        ValueError: the model cannot be exported, or the samples do not fit it; the layer or the value is named.
        ImportError: tflite-micro is not installed.

    Example:
        >>> print(profile(keras.saving.load_model("model.keras")))  # doctest: +SKIP
    """
    if (x is None) != (y is None):
        raise ValueError("profile expects samples with their labels, or neither. Received only one of x and y.")
    task = _without_samples(model, head) if x is None else _of_samples(model, np.asarray(x, np.float32), np.asarray(y), head)
    rehearsal = rehearse(model, task.x, task.device)

    def choose_for(target: str, accounting: DeviceAccounting, untrainable: Mapping[str, str]) -> Plan:
        return choose(
            task.classifier,
            task.x,
            task.loss,
            Budget(board(target).available_sram_bytes, compute),
            strategy=task.strategy,
            accounting=accounting,
            frozen=untrainable,
        )

    found = tuple(_on_board(rehearsal, dataclasses.replace(task.device, board=name), choose_for) for name in boards)
    return Profile(layer_table(model), task.device, x is not None, found)


def _head(plan: Plan) -> str:
    """Of the device of a rehearsed plan; a head that is trained computes a softmax there."""
    device = typing.cast(DeviceSettings, plan.device)
    return device.head if device.head in _ANSWERS else "softmax"


class _Task(NamedTuple):
    """By what layers are chosen."""

    classifier: keras.Model
    x: np.ndarray
    loss: Loss
    strategy: str
    device: DeviceSettings


def _of_samples(model: keras.Model, x: np.ndarray, y: np.ndarray, head: str) -> _Task:
    classifier, loss = classifier_and_loss(model, x, y, head=head)
    num_classes = int(y.max()) + 1
    device = DeviceSettings(max_samples=len(x), num_classes=num_classes, head=device_head(model, num_classes, head))
    return _Task(classifier, x, loss, "fisher", device)


def _without_samples(model: keras.Model, head: str) -> _Task:
    kind = head_kind(model, None, head)
    ways = {"prototypes": _WAYS, "sigmoid": 2}.get(kind, num_outputs(model))
    x = np.random.default_rng(0).random((_SHOTS, *model.input_shape[1:]), np.float32)  # for the int8 scales
    device = DeviceSettings(
        max_samples=_SHOTS * ways, num_classes=ways, head=AUTO if head == AUTO and kind == "prototypes" else kind
    )
    return _Task(model, x, summed_cross_entropy(np.zeros(len(x), int)), "l2", device)  # which asks for no loss


def _on_board(rehearsal: Rehearsal, device: DeviceSettings, choose_for: _ChooseFor) -> BoardProfile:
    target = board(device.board)
    processor = f"{target.cpu} at {target.clock_hz / 1e6:.0f} MHz"
    try:
        planned = rehearsal.plan(device, lambda *counted: choose_for(device.board, *counted))
    except ValueError as error:  # nothing fits, or it does not fit the flash
        return BoardProfile(target.name, processor, reason=str(error))
    return BoardProfile(target.name, processor, planned.plan, planned.layout)
