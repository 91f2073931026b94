"""Run a bundle's firmware on QEMU's Cortex-M4F, and do for it what the emulated board cannot: forward passes without TFLM."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import socket
import struct
import subprocess
import tempfile

import numpy as np

from keras_tinytrain.delta import Delta
from keras_tinytrain.export.bundle import Bundle
from keras_tinytrain.export.tflite.arena import smallest_arena
from keras_tinytrain.export.tflite.macs import forward_macs
from keras_tinytrain.plan import Budget, Plan
from keras_tinytrain.run.bundle_runtime import quantise_samples, selection_limits
from keras_tinytrain.run.firmware import EMULATOR, build_firmware, check_tools, with_tflm
from keras_tinytrain.run.host import MicroModel
from keras_tinytrain.run.profiler import Profiler

COMMAND = (
    EMULATOR,
    "-machine",
    "mps2-an386",
    "-display",
    "none",
    "-monitor",
    "none",
    "-semihosting-config",
    "enable=on,target=native",
    "-icount",
    "shift=0",
)
_END_OF_TRANSMISSION = b"\x04"
INSTRUCTIONS_PER_MAC = 3.8  # CMSIS-NN's int8 convolutions: 27.1 M instructions for person_detect's 7.1 M MACs


@dataclasses.dataclass(frozen=True)
class EmulatedTask:
    """A whole task as the emulated board ran it.

    Args:
        sram_bytes, flash_bytes: what was in use, by part, and the "total".
        instructions: by part, of adding the samples and training. Forward passes: executed where the firmware had TFLM,
            else estimated, see `forward_is_estimated`.
        stack_bytes: the most stack that was in use.
        heap_bytes: what was asked of the heap, which grants nothing: 0.
        plan: what was trained.
        delta: what was learned.
        losses: mean loss before each iteration.
        logits: (N, num_classes) of the queries; None without.
        functions: instructions by function, without its callees and without what the host ran; None where not asked for.
    """

    sram_bytes: dict[str, int]
    flash_bytes: dict[str, int]
    instructions: dict[str, int]
    stack_bytes: int
    heap_bytes: int
    plan: Plan
    delta: bytes
    losses: list[float]
    logits: np.ndarray | None
    calls: dict[str, int]
    forward_is_estimated: bool
    functions: dict[str, int] | None = None

    @property
    def delta_sha256(self) -> str:
        return hashlib.sha256(self.delta).hexdigest()

    def to_json(self) -> dict:
        """The figures by which two runs can be compared."""
        names = ("sram_bytes", "flash_bytes", "instructions", "stack_bytes", "heap_bytes", "delta_sha256")
        figures = {name: getattr(self, name) for name in names}
        return figures if self.functions is None else {**figures, "functions": self.functions}


def emulate_task(
    bundle: Bundle | str | os.PathLike,
    x,
    y,
    *,
    iterations: int | None = None,
    queries=None,
    budget: Budget | None = None,
    program=None,
    profile: bool = False,
    progress=None,
) -> EmulatedTask:
    """Learn labelled samples on the emulated board.

    Args:
        bundle: exported for a board with a Cortex-M4F, or its path.
        x, y: samples (N, ...) in the model's own convention, and their labels (N,).
        iterations: of training; None: as exported.
        queries: (M, ...) samples to classify afterwards.
        budget: of a bundle with candidates: within which the board chooses what to train; None: all that it was exported for.
        program: what `build_firmware` made of the bundle; None: it is built here.
        profile: whether to count instructions by function; needs a C compiler for this machine.
        progress: called as progress(what) when a step begins.

    Raises:
        RuntimeError: a compiler or the emulator is missing, the firmware does not compile, or the board reports a fault.
        ValueError: the bundle does not fit its board, or the samples do not fit the bundle.

    Example:
        >>> task = emulate_task("build/faces", x_support, y_support)  # doctest: +SKIP
        >>> task.sram_bytes["total"], task.instructions["backward"]  # doctest: +SKIP
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    progress = progress or (lambda what: None)
    images, labels = quantise_samples(bundle.input, x), np.asarray(y, np.uint8)
    check_tools()
    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder:
        progress("compiling the firmware")
        program = program or build_firmware(bundle, folder)
        profiler = Profiler(program, folder) if profile else None
        with EmulatedBoard(bundle, program, progress, profiler=profiler) as board:
            board.start(iterations)
            progress("storing samples")
            for image, label in zip(images, labels, strict=True):
                board.ask(b"s" + bytes([label]) + image.tobytes())
            if bundle.manifest.get("adaptive") or budget is not None:
                progress("choosing what to train")
                board.ask(b"c" + struct.pack("<II", *selection_limits(bundle, budget)))
            progress("learning")
            board.ask(b"l")
            logits = None
            if queries is not None:
                progress("answering")
                rows = [board.ask(b"p" + image.tobytes()) for image in quantise_samples(bundle.input, queries)]
                logits = np.stack([np.frombuffer(row, np.float32) for row in rows])
            delta = board.ask(b"d")
            report = dict(line.rsplit(" ", 1) for line in board.ask(b"r").decode().splitlines())
        functions = profiler.functions() if profile else None
    task = _task(bundle, {name: int(value) for name, value in report.items()}, delta, board.losses, logits)
    return dataclasses.replace(task, functions=functions)


class EmulatedBoard:
    """A firmware in QEMU: commands go to its standard input, requests and answers come from its standard output.

    The protocol stands in tflm_runtime/firmware/main.cpp. A context manager: leaving it ends the emulator.

    Args:
        bundle: a `Bundle`.
        program: what `build_firmware` made of it.
        progress: as of `emulate_task`.
        serial: whether the board's serial port is at a port of this machine, see `serial_port`.
        profiler: a `Profiler` of the program.
    """

    def __init__(self, bundle, program, progress=None, *, serial=False, profiler=None):
        self.losses = []
        self._progress = progress or (lambda what: None)
        models = [None, None] if with_tflm() else [bundle.frozen, bundle.trainable]
        self._frozen, self._trainable = (MicroModel(model, smallest_arena(model)) if model else None for model in models)
        size = bundle.input
        self._image_bytes = size["height"] * size["width"] * size["channels"]
        self._feature_bytes = bundle.manifest["features"]["size"]
        self._bound = []
        self._socket = socket.create_server(("127.0.0.1", 0)) if serial else None
        handles = [self._socket.fileno()] if serial else []
        options = ["-serial", "none", "-kernel", str(program), *(profiler.options if profiler else ())]
        if serial:
            options[:2] = ["-chardev", f"socket,id=uart,fd={handles[0]},server=on,wait=off", "-serial", "chardev:uart"]
        self._process = subprocess.Popen(
            [*COMMAND, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=handles
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()
        if self._socket:
            self._socket.close()

    def start(self, iterations: int | None = None) -> None:
        """Make a trainer that learns in so many iterations; None: as exported."""
        self.ask(b"i" + struct.pack("<I", iterations or 0))

    @contextlib.contextmanager
    def serial_port(self):
        """Until it is left, the board obeys what comes over its serial port, as a sketch does; yields the port, a URL of pyserial.

        Example:
            >>> with EmulatedBoard(bundle, program, serial=True) as board:  # doctest: +SKIP
            ...     board.start()
            ...     with board.serial_port() as port, Device(port) as device:
            ...         device.teach(x_support, y_support)
        """
        address = self._socket.getsockname()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            served = pool.submit(self.ask, b"u")
            try:
                yield "socket://{}:{}".format(*address)
            finally:
                if not served.done():  # it has not failed
                    with socket.create_connection(address) as end:
                        end.sendall(_END_OF_TRANSMISSION)
                        served.result()
            served.result()

    def ask(self, command: bytes) -> bytes:
        """What the board answers; meanwhile its own requests are served.

        Raises:
            RuntimeError: the board failed, with its own words.
        """
        self._send(command)
        while True:
            request = self._receive(1)
            if request == b"a":
                status, num_bytes = struct.unpack("<BI", self._receive(5))
                answer = self._receive(num_bytes)
                if status:
                    raise RuntimeError(f"The board answered to {command[:1].decode()!r}: {answer.decode()}")
                return answer
            self._serve(request)

    def _serve(self, request):
        if request == b"p":
            self.losses += struct.unpack("<f", self._receive(4))
            self._progress(f"learning: iteration {len(self.losses)}, loss {self.losses[-1]:.4f}")
        elif request == b"b":
            tensor, num_bytes = struct.unpack("<iI", self._receive(8))
            self._bound.append(np.zeros(num_bytes, np.uint8))
            self._trainable.bind(tensor, self._bound[-1])
        elif request == b"f":
            self._send(self._frozen(np.frombuffer(self._receive(self._image_bytes), np.int8))[0].tobytes())
        elif request == b"t":
            features = np.frombuffer(self._receive(self._feature_bytes), np.int8)
            for array in self._bound:
                array[:] = np.frombuffer(self._receive(array.size), np.uint8)
            self._send(b"".join(output.tobytes() for output in self._trainable(features)))
        else:
            raise RuntimeError(f"The board made a request that nobody knows: {request!r}")

    def _send(self, data):
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()

    def _receive(self, num_bytes):
        data = self._process.stdout.read(num_bytes)
        if len(data) < num_bytes:
            self._fail()
        return data

    def _fail(self):
        words = self._process.stderr.read().decode(errors="replace").strip()
        raise RuntimeError(f"The emulated board stopped: {words or 'it said nothing'}")


def _task(bundle, report, delta, losses, logits):
    """Figures by part; forward passes that the host ran are estimated from their multiply-accumulates."""
    groups = {group: {} for group in ("sram", "flash", "instructions", "calls")}
    for name, value in report.items():
        group, _, part = name.partition(".")
        if part:
            groups[group][part] = value
    estimated = not with_tflm()
    if estimated:
        macs = {"prefix_forward": forward_macs(bundle.frozen), "tail_forward": forward_macs(bundle.trainable)}
        for part, num_macs in macs.items():
            groups["instructions"][part] = round(groups["calls"][part] * num_macs * INSTRUCTIONS_PER_MAC)
    return EmulatedTask(
        sram_bytes=_with_total(groups["sram"]),
        flash_bytes=_with_total(groups["flash"]),
        instructions=_with_total(groups["instructions"]),
        stack_bytes=report["stack"],
        heap_bytes=report["heap"],
        plan=Plan(tuple(layer for layer in Delta.from_bytes(delta).plan.layers if layer.name in bundle.manifest["trained"])),
        delta=delta,
        losses=losses,
        logits=logits,
        calls=groups["calls"],
        forward_is_estimated=estimated,
    )


def _with_total(parts):
    return {**parts, "total": sum(parts.values())}
