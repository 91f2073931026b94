"""A whole task on the emulated board: samples, learning, answers, and what each part took."""

import collections.abc
import dataclasses
import hashlib
import os
import pathlib
import struct
import tempfile
import typing

import numpy as np

from keras_tinytrain.choose.forward_work import Work
from keras_tinytrain.data.labels import check_labels
from keras_tinytrain.delta import Delta
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.plan import Budget, Plan
from keras_tinytrain.run.bundle_runtime import selection_limits
from keras_tinytrain.run.cortex_m4 import NRF52840, Flash
from keras_tinytrain.run.emulator import EmulatedBoard, Tell
from keras_tinytrain.run.firmware import build_firmware, check_tools
from keras_tinytrain.run.profiler import Profiler
from keras_tinytrain.run.quantise import quantise_samples
from keras_tinytrain.run.task_profile import FORWARD, TaskProfile, forward_layers, num_rows, task_profile
from keras_tinytrain.run.users_tflm import users_tflm

# Cycles an instruction where they are not counted: of tasks of NanoNet, MCUNet and MobileNetV2 with a profile.
# Solving is partly arithmetic in double, of the compiler's library, which waits less for flash.
CYCLES_PER_INSTRUCTION = {"samples": 1.7, "selection": 1.7, "solving": 1.55, "backward": 1.7, "update": 1.9}


@dataclasses.dataclass(frozen=True)
class EmulatedTask:
    """A whole task as the emulated board ran it.

    Args:
        sram_bytes, flash_bytes: bytes in use by part, and the "total".
        instructions: of adding the samples and training, by part, and the "total". Forward passes ("frozen_forward",
            "trainable_forward") are counted where the firmware had TFLM, else estimated, see `forward_is_estimated`.
        cycles: the same in cycles of a Cortex-M4: counted with a profile, else estimated from the instructions.
        stack_bytes: the largest stack.
        heap_bytes: what was asked of the heap, which grants nothing: 0.
        plan: the channels that were trained.
        delta: what was learned.
        losses: mean loss before each iteration.
        logits: (N, num_classes) of the queries; None where there were none.
        calls: number of forward passes by part.
        leave_one_out: float32 (N, num_classes), scores of each sample by the closed form without it; None where it was trained.
        profile: where the cycles went; None where not asked for.
    """

    sram_bytes: dict[str, int]
    flash_bytes: dict[str, int]
    instructions: dict[str, int]
    cycles: dict[str, int]
    stack_bytes: int
    heap_bytes: int
    plan: Plan
    delta: bytes
    losses: list[float]
    logits: np.ndarray | None
    calls: dict[str, int]
    forward_is_estimated: bool
    leave_one_out: np.ndarray | None = None
    profile: TaskProfile | None = None

    @property
    def delta_sha256(self) -> str:
        """Names the delta: equal for two runs that learned the same."""
        return hashlib.sha256(self.delta).hexdigest()

    def leave_one_out_percent(self, labels: np.ndarray) -> float:
        """Share of the samples, of labels (N,), that the closed form gets right without them. Raises ValueError where it was trained."""
        if self.leave_one_out is None:
            raise ValueError("The task was trained: only a solved closed-form head, solve=True, leaves samples out.")
        return 100 * float(np.mean(self.leave_one_out.argmax(axis=1) == labels))

    def to_json(self) -> dict[str, typing.Any]:
        """The figures by which two runs can be compared."""
        names = ("sram_bytes", "flash_bytes", "instructions", "cycles", "stack_bytes", "heap_bytes", "delta_sha256")
        figures = {name: getattr(self, name) for name in names}
        return figures if self.profile is None else {**figures, **self.profile.to_json()}


def emulate_task(
    bundle: Bundle | str | os.PathLike,
    x: np.ndarray,
    y: collections.abc.Sequence[int] | np.ndarray,
    *,
    iterations: int | None = None,
    queries: np.ndarray | None = None,
    budget: Budget | None = None,
    program: pathlib.Path | None = None,
    profile: bool = False,
    solve: bool = False,
    flash: Flash = NRF52840,
    progress: Tell | None = None,
) -> EmulatedTask:
    """Learn labelled samples on the emulated board.

    Args:
        bundle: exported for a board with a Cortex-M4F, or its path.
        x, y: samples (N, ...) in the model's own convention, and their labels (N,).
        iterations: of training; None: as exported.
        queries: (M, ...) samples to classify afterwards.
        budget: of a bundle with candidates: the limits within which the board chooses; None: all that it was exported for.
        program: what `build_firmware` made of the bundle; None: it is built here.
        solve: whether to solve the closed-form head and train nothing (bundles exported with head="ridge").
        profile: whether to count cycles, by function, kind of work and layer; it needs a C compiler for this machine.
        flash: of the board, for its cycles.
        progress: called as progress(text) when a step begins.

    Raises:
        RuntimeError: a compiler or the emulator is missing, the firmware does not compile, or the board reports a fault.
        ValueError: the bundle does not fit its board or has no head that is solved, or the samples do not fit the bundle.

    Example:
        >>> task = emulate_task("build/faces", x_support, y_support)  # doctest: +SKIP
        >>> task.sram_bytes["total"], task.instructions["backward"]  # doctest: +SKIP
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    tell: Tell = progress or (lambda text: None)
    images, labels = quantise_samples(bundle.input, x), np.asarray(y)
    check_labels(labels, len(images), bundle.manifest["training"]["num_classes"], is_exported=True)
    if solve and "closed_form" not in bundle.manifest:
        raise ValueError(f"Bundle {bundle.path} has no closed-form head to solve: export it with head='ridge'.")
    check_tools()
    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder:
        tell("compiling the firmware")
        program = program or build_firmware(bundle, folder)
        profiler = Profiler(program, folder, num_layers=num_rows(bundle), flash=flash) if profile else None
        with EmulatedBoard(bundle, program, tell, profiler=profiler) as board:
            board.start(iterations)
            left_out = _learn(board, bundle, images, labels, None if solve else budget, tell, solve)
            logits = None if queries is None else _answers(board, quantise_samples(bundle.input, queries), tell)
            delta = board.ask(b"d")
            report = dict(line.rsplit(" ", 1) for line in board.ask(b"r").decode().splitlines())
    task = _task(bundle, {name: int(value, 0) for name, value in report.items()}, delta, board.losses, logits, profiler)
    return dataclasses.replace(task, leave_one_out=left_out)


def _learn(
    board: EmulatedBoard, bundle: Bundle, images: np.ndarray, labels: np.ndarray, budget: Budget | None, tell: Tell, solve: bool
) -> np.ndarray | None:
    tell("storing samples")
    for image, label in zip(images, labels, strict=True):
        board.ask(b"s" + bytes([label]) + image.tobytes())
    if solve:
        tell("solving")
        return np.frombuffer(board.ask(b"v"), np.float32).reshape(len(labels), -1)
    if bundle.manifest.get("adaptive") or budget is not None:
        tell("choosing what to train")
        board.ask(b"c" + struct.pack("<II", *selection_limits(bundle, budget)))
    tell("learning")
    board.ask(b"l")
    return None


def _answers(board: EmulatedBoard, images: np.ndarray, tell: Tell) -> np.ndarray:
    tell("answering")
    return np.stack([np.frombuffer(board.ask(b"p" + image.tobytes()), np.float32) for image in images])


def _task(
    bundle: Bundle,
    report: dict[str, int],
    delta: bytes,
    losses: list[float],
    logits: np.ndarray | None,
    profiler: Profiler | None,
) -> EmulatedTask:
    """Figures by part. Forward passes that the host ran are estimated from the shapes of their operators."""
    groups: dict[str, dict[str, int]] = {group: {} for group in ("sram", "flash", "instructions", "calls")}
    for name, value in report.items():
        group, _, part = name.partition(".")
        if part:
            groups[group][part] = value
    estimated = users_tflm() is None
    profile = task_profile(profiler, bundle, groups["calls"], estimated=estimated) if profiler else None
    passes = {part: sum(forward_layers(bundle, part).values(), Work()) for part in FORWARD}
    if estimated:
        groups["instructions"] |= {part: work.instructions * groups["calls"][part] for part, work in passes.items()}
    cycles = {
        part: round(count * _cycles_per_instruction(part, passes, profile)) for part, count in groups["instructions"].items()
    }
    return EmulatedTask(
        sram_bytes=_with_total(groups["sram"]),
        flash_bytes=_with_total(groups["flash"]),
        instructions=_with_total(groups["instructions"]),
        cycles=_with_total(cycles),
        stack_bytes=report["sram.stack"],
        heap_bytes=report["heap"],
        plan=Plan(tuple(layer for layer in Delta.from_bytes(delta).plan.layers if layer.name in bundle.manifest["trained"])),
        delta=delta,
        losses=losses,
        logits=logits,
        calls=groups["calls"],
        forward_is_estimated=estimated,
        profile=profile,
    )


def _cycles_per_instruction(part: str, passes: dict[str, Work], profile: TaskProfile | None) -> float:
    if profile is not None:
        return profile.cycles_per_instruction(part)
    if part in passes:
        return passes[part].cycles / max(1, passes[part].instructions)
    return CYCLES_PER_INSTRUCTION[part]


def _with_total(parts: dict[str, int]) -> dict[str, int]:
    return {**parts, "total": sum(parts.values())}
