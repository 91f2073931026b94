"""A bundle's firmware on QEMU's Cortex-M4F. The host serves the requests of a board without TFLM: forward passes."""

import collections.abc
import concurrent.futures
import contextlib
import os
import pathlib
import socket
import struct
import subprocess
import sys
import types
import typing

import numpy as np

from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.tflite.arena import smallest_arena
from keras_tinytrain.run.bundle_runtime import stored_sample
from keras_tinytrain.run.firmware import EMULATOR
from keras_tinytrain.run.micro_model import MicroModel
from keras_tinytrain.run.profiler import Profiler
from keras_tinytrain.run.users_tflm import users_tflm

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
Tell = collections.abc.Callable[[str], None]


class EmulatedBoard:
    """A firmware in QEMU: commands go to its standard input, requests and answers come from its standard output.

    The protocol stands in tflm_runtime/firmware/main.cpp. A context manager: leaving it ends the emulator.

    Args:
        bundle: a `Bundle`.
        program: what `build_firmware` made of it.
        progress: called as progress(text) after each iteration.
        serial: whether to connect the board's serial port with a port of this machine, see `serial_port`.
        profiler: counts instructions by function.
    """

    def __init__(
        self,
        bundle: Bundle,
        program: pathlib.Path,
        progress: Tell | None = None,
        *,
        serial: bool = False,
        profiler: Profiler | None = None,
    ):
        self.losses: list[float] = []
        self._progress: Tell = progress or (lambda text: None)
        models = (None, None) if users_tflm() else (bundle.frozen, bundle.trainable)
        self._frozen, self._trainable = (MicroModel(model, smallest_arena(model)) if model else None for model in models)
        size = bundle.input
        self._image_bytes = size["height"] * size["width"] * size["channels"]
        self._bound: list[np.ndarray] = []
        self._socket = socket.create_server(("127.0.0.1", 0)) if serial else None
        options = ["-serial", "none", "-kernel", str(program), *(profiler.options if profiler else ())]
        handles = [self._socket.fileno()] if self._socket else []
        if handles:
            options[:2] = ["-chardev", f"socket,id=uart,fd={handles[0]},server=on,wait=off", "-serial", "chardev:uart"]
        self._process, self._leash = _on_a_leash([*COMMAND, *options], handles)

    def __enter__(self) -> "EmulatedBoard":  # noqa: PYI034  typing.Self needs Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.stop()
        self._process.communicate()
        if self._socket:
            self._socket.close()

    def stop(self) -> None:
        """End the emulator at once; whoever waits for the board's answer gets a RuntimeError. Leaving the context does it, too."""
        self._leash.close()

    def start(self, iterations: int | None = None) -> None:
        """Make a trainer that learns in so many iterations; None: as exported."""
        self.ask(b"i" + struct.pack("<I", iterations or 0))

    @property
    def serial_address(self) -> tuple[str, int]:
        """(host, port) of the TCP socket at which the board's serial port is. RuntimeError: it has none."""
        if self._socket is None:
            raise RuntimeError("This board has no serial port: make an EmulatedBoard with serial=True.")
        return self._socket.getsockname()

    @contextlib.contextmanager
    def serial_port(self) -> collections.abc.Iterator[str]:
        """Let the board obey the commands on its serial port, as a sketch does. Yields the port, a URL of pyserial.

        Example:
            >>> with EmulatedBoard(bundle, program, serial=True) as board:  # doctest: +SKIP
            ...     board.start()
            ...     with board.serial_port() as port, Device(port) as device:
            ...         device.teach(x_support, y_support)
        """
        address = self.serial_address
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            served = pool.submit(self.ask, b"u")
            try:
                yield "socket://{}:{}".format(*address)
            except BaseException:
                self.stop()  # the board may be training, or its port taken: it would not hear of an end
                raise
            if self._leash.closed:
                return
            if not served.done():  # it has not failed
                with socket.create_connection(address) as end:
                    end.sendall(_END_OF_TRANSMISSION)
                    served.result()
            served.result()

    def ask(self, command: bytes) -> bytes:
        """The board's answer. Until it comes, the board's own requests are served.

        Raises:
            RuntimeError: the board failed. The error has its own words.
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

    def _serve(self, request: bytes) -> None:
        if request == b"p":
            self.losses += struct.unpack("<f", self._receive(4))
            self._progress(f"learning: iteration {len(self.losses)}, loss {self.losses[-1]:.4f}")
        elif request == b"b":
            tensor, num_bytes = struct.unpack("<iI", self._receive(8))
            self._bound.append(np.zeros(num_bytes, np.uint8))
            _on_host(self._trainable).bind(tensor, self._bound[-1])
        elif request == b"f":
            image = np.frombuffer(self._receive(self._image_bytes), np.int8)
            self._send(stored_sample(_on_host(self._frozen)(image)).tobytes())
        elif request == b"t":
            features = np.frombuffer(self._receive(_on_host(self._trainable).num_inputs), np.int8)
            for array in self._bound:
                array[:] = np.frombuffer(self._receive(array.size), np.uint8)
            self._send(b"".join(output.tobytes() for output in _on_host(self._trainable)(features)))
        else:
            raise RuntimeError(f"The board made an unknown request: {request!r}. Build its firmware again with this release.")

    def _send(self, data: bytes) -> None:
        pipe = typing.cast(typing.IO[bytes], self._process.stdin)
        try:
            pipe.write(data)
            pipe.flush()
        except BrokenPipeError:
            self._fail()

    def _receive(self, num_bytes: int) -> bytes:
        data = typing.cast(typing.IO[bytes], self._process.stdout).read(num_bytes)
        if len(data) < num_bytes:
            self._fail()
        return data

    def _fail(self) -> typing.NoReturn:
        words = typing.cast(typing.IO[bytes], self._process.stderr).read().decode(errors="replace").strip()
        raise RuntimeError(f"The emulated board stopped: {words or 'it said nothing'}")


def _on_a_leash(command: list[str], handles: list[int]) -> tuple[subprocess.Popen, typing.IO[bytes]]:
    """Start a command that ends as soon as the second value, an open file, is closed: by `close`, or because this process ended."""
    held, kept = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(pathlib.Path(__file__).with_name("_ended_with.py")), str(held), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[held, *handles],
            start_new_session=True,  # Ctrl-C is for this process, which ends the board
        )
    except BaseException:
        os.close(kept)
        raise
    finally:
        os.close(held)
    return process, open(kept, "wb", buffering=0)


def _on_host(model: MicroModel | None) -> MicroModel:
    if model is None:
        raise RuntimeError("The board asked for a forward pass, but it was built with TFLM: build its firmware again.")
    return model
