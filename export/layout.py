"""Step 3 of an export: where does everything lie, and does it fit the board? SRAM, flash, scratch and arenas by part."""

import dataclasses
import typing
from collections.abc import Callable

from keras_tinytrain._text import kilobytes
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.choose.training_memory import ClosedForm, TrainingMemory, variables_bytes
from keras_tinytrain.export.adaptive import Room, divide
from keras_tinytrain.export.backward.graph import TrainableGraph
from keras_tinytrain.export.backward.memory import closed_form_of, delta_bytes, feature_flash_bytes, training_memory
from keras_tinytrain.export.backward.selected import RamChoice, choose_split
from keras_tinytrain.export.boards import Board
from keras_tinytrain.export.code_size import CLOSED_FORM_BYTES, code_bytes
from keras_tinytrain.export.conversion import Converted
from keras_tinytrain.export.limits import check_fits, flash_bytes
from keras_tinytrain.export.request import ExportRequest
from keras_tinytrain.export.settings import WEIGHTS_IN_RAM
from keras_tinytrain.export.tables import bounds_of, tables_bytes
from keras_tinytrain.export.task_time import TaskTime, task_time
from keras_tinytrain.export.tflite.arena import board_arena, smallest_arena
from keras_tinytrain.export.tflite.flatbuffer import operator_names
from keras_tinytrain.tflm_runtime.headers import constant
from keras_tinytrain.tflm_runtime.rounding import whole_pages


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Bytes of a bundle on its board.

    Args:
        board: it is for.
        trainable, graph: as they will run. A layer is split where RAM holds only its trained channels.
        in_ram: what RAM holds of each trained layer; () with candidates.
        arenas: {"frozen_arena": bytes, "trainable_arena": bytes}, as TensorFlow Lite Micro needs them with the board's kernels.
        memory: of training, by part.
        room: how SRAM is divided between the models' arena and the trainer's.
        sram, flash: {part: bytes, ..., "total": bytes}.
        adaptive: what the manifest says of candidates; None where the plan is decided.
        time: an estimate of the task's; None for boards with a processor whose cycles are not known.
    """

    board: Board
    trainable: bytes
    graph: TrainableGraph
    in_ram: tuple[RamChoice, ...]
    arenas: dict[str, int]
    memory: TrainingMemory
    room: Room
    sram: dict[str, int]
    flash: dict[str, int]
    adaptive: dict | None
    time: TaskTime | None

    @property
    def scratch(self) -> dict[str, int]:
        """Parts of the scratch, which share the same bytes in turn."""
        return self.memory.scratch

    @property
    def fits(self) -> bool:
        """Whether the board has room for it."""
        return self.sram["total"] <= self.board.available_sram_bytes and self.flash["total"] <= self.board.available_flash_bytes

    def check_fits(self, remedy: Callable[[], str] = str) -> None:
        """Raise ValueError, naming the largest parts, where the board has no room for it; `remedy` gives the advice."""
        if not self.fits:
            check_fits(self.board, self.sram, self.flash, remedy=remedy())

    @property
    def in_short(self) -> str:
        """One sentence for a user who has not exported yet, and one on time where that can be told."""
        sram, flash = (kilobytes(parts["total"]) for parts in (self.sram, self.flash))
        free = f"{kilobytes(self.board.available_sram_bytes)} KB of SRAM that board {self.board.name} leaves free"
        return (
            f"Its export takes {sram} of the {free}, and {flash} of {kilobytes(self.board.available_flash_bytes)} KB of flash."
            + (f" {self.time}" if self.time else "")
        )

    def __str__(self) -> str:
        board = self.board
        return (
            f"{'Fits' if self.fits else 'Does not fit'} board {board.name}\n"
            f"  SRAM  {_share(self.sram['total'], board.available_sram_bytes)}: {_parts(self.sram)}\n"
            f"  flash {_share(self.flash['total'], board.available_flash_bytes)}: {_parts(self.flash)}"
        )


class _Accounted(typing.TypedDict):
    """What `training_memory` must know beside the graph and the settings."""

    head: str
    image_bytes: int
    num_views: int
    features: str
    closed_form: ClosedForm | None


def lay_out(request: ExportRequest, converted: Converted) -> Layout:
    """Give everything its bytes.

    Raises:
        ValueError: the device has no room to choose among candidates, or TensorFlow Lite Micro cannot run a model. Whether a plan fits is up to `Layout.check_fits`.
        ImportError: tflite-micro is not installed.
    """
    accounted = _accounted(request, converted)
    _check_parts(request, accounted["closed_form"])
    frozen_arena = _arena(converted.frozen, request.board) if converted.frozen else 0
    trainable, graph, in_ram = _split(request, converted, frozen_arena, accounted)
    arenas = {"frozen_arena": frozen_arena, "trainable_arena": _arena(trainable, request.board)}
    accounted = _with_rows_placed(request, graph, arenas, accounted)
    memory = training_memory(graph, request.training, **accounted)
    variables = variables_bytes(0 if converted.frozen else converted.image_bytes)
    room = _room(request, graph, memory, arenas, variables, accounted)
    adaptive = request.candidates.limits(request.model, room) if request.candidates else None
    return Layout(
        board=request.board,
        trainable=trainable,
        graph=graph,
        in_ram=in_ram,
        arenas=arenas,
        memory=memory,
        room=room,
        sram=room.sram(memory.state["samples"], variables, memory.closed_form)
        if request.adaptive
        else memory.sram(**arenas, variables=variables),
        flash=_flash(request, converted.frozen, trainable, graph, room, accounted["closed_form"]),
        adaptive=adaptive,
        time=task_time(
            converted.frozen,
            trainable,
            graph,
            request.board,
            request.training,
            num_views=len(request.views),
            head=request.head,
            closed_form=request.maps is not None,
            prototype_training=request.prototype_training,
        ),
    )


def _arena(model: bytes, target: Board) -> int:
    """Bytes of a model's arena on a board. It was run on this machine, so that an operator that cannot run is named now."""
    smallest_arena(model)
    return board_arena(model, target.kernels)


def _accounted(request: ExportRequest, converted: Converted) -> _Accounted:
    return {
        "head": request.head,
        "image_bytes": converted.image_bytes,
        "num_views": len(request.views),
        "features": request.features,
        "closed_form": None
        if request.maps is None
        else closed_form_of(converted.graph, in_flash=request.features == "flash", rejects=request.rejects),
    }


def _check_parts(request: ExportRequest, head: ClosedForm | None) -> None:
    most = constant("tinytrain/trainer/ridge.h", "kMaxPartElements")
    for name, size in zip((*(request.maps or ()), "the embedding"), () if head is None else head.parts):
        if size > most:
            raise ValueError(
                f"A closed-form head reads parts of at most {most:,} values, and {name} has {size:,}: take head='prototypes'."
            )


def _with_rows_placed(
    request: ExportRequest, graph: TrainableGraph, arenas: dict[str, int], accounted: _Accounted
) -> _Accounted:
    """A closed-form head's rows lie in the scratch; in flash if the samples do and the scratch would grow the models' arena."""
    head = accounted["closed_form"]
    if head is None or not head.in_flash:
        return accounted
    in_flash = typing.cast(_Accounted, {**accounted, "closed_form": dataclasses.replace(head, rows_in_flash=True)})
    ways = (training_memory(graph, request.training, **way).model_arena(**arenas) for way in (accounted, in_flash))
    return accounted if len(set(ways)) == 1 else in_flash


def _split(
    request: ExportRequest, converted: Converted, frozen_arena: int, accounted: _Accounted
) -> tuple[bytes, TrainableGraph, tuple[RamChoice, ...]]:
    """trainable.tflite and its graph, with layers split where RAM shall hold their trained channels only."""
    if request.adaptive:
        return converted.trainable, converted.graph, ()
    scratch = training_memory(converted.graph, request.training, **accounted)  # the same, whatever is split
    return choose_split(
        converted.trainable,
        converted.graph,
        model_arena=lambda split: scratch.model_arena(frozen_arena, board_arena(split, request.board.kernels)),
        only=WEIGHTS_IN_RAM[request.weights_in_ram],
    )


def _room(
    request: ExportRequest,
    graph: TrainableGraph,
    memory: TrainingMemory,
    arenas: dict[str, int],
    variables: int,
    accounted: _Accounted,
) -> Room:
    """As a plan needs it; for candidates, all SRAM that the board and the budget give."""
    candidates = request.candidates
    if candidates is None:
        return Room(memory.model_arena(**arenas), memory.scratch_bytes, memory.state_bytes)
    sram_bytes = min(request.board.available_sram_bytes, candidates.budget.memory_bytes) - memory.closed_form
    affordable = candidates.affordable(request.model)
    return divide(graph, request.training, affordable, sram_bytes=sram_bytes, variables=variables, **arenas, **accounted)


def _flash(
    request: ExportRequest,
    frozen: bytes | None,
    trainable: bytes,
    graph: TrainableGraph,
    room: Room,
    closed_form: ClosedForm | None,
) -> dict[str, int]:
    num_views, page_bytes = len(request.views), request.board.flash_page_bytes
    features = feature_flash_bytes(graph, request.training, num_views=num_views) if request.features == "flash" else 0
    head_bytes = 0
    if closed_form is not None:
        training = request.training
        num_classes, averages = typing.cast(int, training.num_classes), training.average > 0
        head_bytes = closed_form.flash_bytes(training.max_samples, num_classes, page_bytes, averages=averages)
    delta = delta_bytes(graph, request.training, head=request.head, closed_form=closed_form) + (
        room.arena_bytes if request.adaptive else 0
    )
    return flash_bytes(
        frozen,
        trainable,
        tables=tables_bytes(
            graph, num_views=num_views, closed_form=closed_form is not None, num_bounds=len(bounds_of(request))
        ),
        features=whole_pages(features, page_bytes) + head_bytes,
        deltas=2 * whole_pages(delta, page_bytes),
        code=code_bytes(
            operator_names(frozen) | operator_names(trainable),
            request.board.kernels,
            has_core=request.board.reserved_flash_bytes > 0,
            page_bytes=page_bytes,
        )
        + (CLOSED_FORM_BYTES if closed_form else 0),
    )


def device_accounting(request: ExportRequest) -> DeviceAccounting:
    """The estimate to plan with: it counts what this request keeps on the device."""
    training = request.training
    return DeviceAccounting(
        optimizer=training.optimizer,
        weights=training.weights,
        num_samples=training.max_samples,
        num_views=len(request.views),
        num_classes=typing.cast(int, training.num_classes),
        features=request.features,
        kernels=request.board.kernels,
        closed_form=request.maps is not None,
        rejects=request.rejects,
        maps=request.device.maps if request.maps is not None else (),
    )


def _share(num_bytes: int, available: int) -> str:
    return f"{kilobytes(num_bytes)} of {kilobytes(available)} KB"


def _parts(parts: dict[str, int]) -> str:
    """The parts that take bytes, the largest first."""
    taken = sorted(((num_bytes, name) for name, num_bytes in parts.items() if num_bytes and name != "total"), reverse=True)
    return ", ".join(f"{name} {num_bytes:,} B" for num_bytes, name in taken)
