"""A board that runs a bundle's sketch, from the PC at the other end of its serial port."""

import collections.abc
import contextlib
import dataclasses
import itertools
import math
import time
import types
import typing
import zlib

import numpy as np

from keras_tinytrain.data.labels import check_labels
from keras_tinytrain.delta import Delta
from keras_tinytrain.export.bundle_folder import ModelInput
from keras_tinytrain.run._board_answers import (
    Lines,
    Sample,
    no_board,
    read_familiarity,
    read_label,
    read_loss,
    read_number,
    read_plan,
    read_sample,
    read_solved,
    read_status,
)
from keras_tinytrain.run._open_port import open_port
from keras_tinytrain.run.bundle_runtime import Progress
from keras_tinytrain.run.quantise import quantise_samples

_QUIET_SECONDS = 1.0  # after which a board has answered all that it was asked before
_BLOCK_BYTES, _MAX_DELTA_BYTES = 256, 1 << 20
# Empty lines that are sent before each further STATUS: they end an image that another program began, and are no commands.
_FILLERS = (0, 0, 64, 1024, 8192, 65536)
_LINES_OF = {
    "TRAIN": ("LOSS ", "PLAN "),
    "STATUS": ("HEAD ", "PLAN "),
    "SAMPLES": ("SAMPLE ",),
}  # before the last line of an answer


class Device:
    """A board that is taught over its serial port; the commands stand at the top of the bundle's sketch.

    A context manager: leaving it closes the port. Neither TensorFlow nor the bundle is needed: the board tells its input's shape.

    Args:
        port: its name, such as "/dev/ttyACM0" or "COM3", or a URL of pyserial.
        baudrate: of ports that have one; the sketch's.
        patience: seconds to wait for a board that is still starting, or for an image that will not be completed.
        answer_seconds: to wait for an answer, except while the board trains.

    Raises:
        ImportError: pyserial is not installed.
        OSError: the port cannot be opened.
        RuntimeError: nobody answers there, or something that is no such board; also from every method.

    Example:
        >>> with Device("/dev/ttyACM0") as board:  # doctest: +SKIP
        ...     board.teach(x_support, y_support)
        ...     losses = board.train()
        ...     labels = board.predict(x_query)
    """

    def __init__(self, port: str, *, baudrate: int = 115200, patience: float = 15.0, answer_seconds: float = 60.0):
        self._serial = open_port(port, baudrate, read_seconds=0.1, write_seconds=_QUIET_SECONDS)
        self._lines = Lines(self._serial)
        self._answer_seconds = answer_seconds
        self.train_seconds = 0.0
        try:
            self._await(port, patience)
            self._serial.write_timeout = answer_seconds
            self._checks_images = self.status().get("protocol", 1) > 1
        except BaseException:
            self._serial.close()
            raise

    def __enter__(self) -> "Device":  # noqa: PYI034  typing.Self needs Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._serial.close()

    def status(self) -> dict[str, typing.Any]:
        """The board's answer to STATUS.

        Returns:
            The network's input and limits (height, width, channels, scale, zero_point, classes, max_samples), its state
            (samples, iterations), "records": whether it makes its samples itself, and "plan": {layer: number of channels} that
            it trains or, with candidates, that it chose last; empty before the first choice. "runs": the weights "exported" or
            "learned"; "saves": how many deltas are in flash, 0 to 2; "lasting": whether it runs the same after a power cycle.
            (Boards of version 0.1 do not tell the last three.) "head": of a bundle with a closed-form head, the head that
            answers: "ridge", "prototypes" or "none".
        """
        return read_status(self._ask("STATUS"))

    def teach(self, x: np.ndarray, y: collections.abc.Iterable[int]) -> int:
        """Add samples (N, ...) in the model's own convention, with labels (N,). Returns how many the board has now.

        Raises:
            ValueError: the samples do not have the shape of the network's input, the board does not know a label, or it has
                no place for so many; it gets none of them then.
            RuntimeError: the board refuses one. The error has its own words.
        """
        images, labels, status = self._quantised(x), list(y), self.status()
        check_labels(np.asarray(labels, int), len(images), status["classes"], is_exported=True)
        if status["samples"] + len(labels) > status["max_samples"]:
            raise ValueError(
                f"The board keeps {status['max_samples']} samples and has {status['samples']}, so {len(labels)} more have no place: "
                "send fewer, or forget those that it has (reset)."
            )
        samples = zip(images, labels, strict=True)
        counts = [read_number(self._ask(f"TEACH {int(label)}", image)[-1], "samples") for image, label in samples]
        return counts[-1] if counts else self.status()["samples"]

    def teach_unknown(self, x: np.ndarray) -> int:
        """Add samples (N, ...) of no class, which the next `solve` tells the classes from. Returns how many samples the board has now.

        Raises:
            ValueError: the samples do not have the shape of the network's input.
            RuntimeError: the board refuses one, such as where its bundle tells no unknown samples.
        """
        images, status = self._quantised(x), self.status()
        counts = [read_number(self._ask(f"TEACH {status['classes']}", image)[-1], "samples") for image in images]
        return counts[-1] if counts else status["samples"]

    def teach_recorded(self, label: int) -> int:
        """Let the board record a sample of class `label` now, and add it. Returns how many it has now.

        Raises:
            RuntimeError: there was nothing to record, or the board refuses it.
        """
        return read_number(self._ask(f"TEACH {int(label)}")[-1], "samples")

    def train(self, progress: Progress | None = None) -> list[float]:
        """Train on the board's samples; `progress(iteration, loss)` is called after each. Returns the loss before each iteration.

        `train_seconds` says afterwards how long it took, by the board's own clock.
        """
        losses: list[float] = []
        last = ""
        for last in self._answers("TRAIN"):
            if last.startswith("LOSS "):
                iteration, loss = read_loss(last)
                losses.append(loss)
                if progress:
                    progress(iteration, loss)
            elif last.startswith("PLAN "):
                read_plan(last)
        self.train_seconds = read_number(last, "milliseconds") / 1000
        return losses

    def solve(self) -> float:
        """Learn the board's samples by the closed-form head, without training.

        Returns:
            The fraction of samples that the solution without them gets right.

        Raises:
            RuntimeError: the bundle on the board has no such head (`head="ridge"` at the export), or not a sample of each class.
        """
        return read_solved(self._ask("SOLVE")[-1])

    def remove_class(self, label: int) -> float:
        """Forget a class and its samples, and solve the closed-form head for the others; returns as `solve`.

        Raises:
            RuntimeError: the board has no such head or class, or too few classes are left to solve for.
        """
        self._ask(f"FORGET {int(label)}")
        return self.solve()

    def samples(self) -> list[Sample]:
        """The samples that the board keeps, with the label of each and a CRC-32 of what is kept of it.

        Raises:
            RuntimeError: the board's sketch is older than this command.
        """
        return [read_sample(line) for line in self._ask("SAMPLES")[:-1]]

    def remove_sample(self, place: int) -> int:
        """Take back the sample at a `Sample.place`; see `samples` for the places afterwards. Returns how many the board has.

        In flash a place stays taken until `reset`, so that the number stays the same.

        Raises:
            RuntimeError: there is no such sample, or the board's sketch is older than this command.
        """
        return read_number(self._ask(f"REMOVE {int(place)}")[-1], "samples")

    def saved_delta(self) -> Delta:
        """What was saved last in the board's flash.

        Raises:
            RuntimeError: nothing is saved, the bytes were altered on their way, or the board's sketch is older than this command.
        """
        count = read_number(self._ask("DELTA")[-1], "bytes")
        if not 0 < count <= _MAX_DELTA_BYTES:
            raise no_board(f"bytes {count}", f"a delta of at most {_MAX_DELTA_BYTES:,} bytes")
        try:
            return Delta.from_bytes(self._lines.read_bytes(count, time.monotonic() + self._answer_seconds))
        except (TimeoutError, ValueError) as error:
            raise RuntimeError(f"The delta did not come whole from the board: {error} Ask for it again.") from error

    def load_delta(self, delta: Delta) -> None:
        """Put a delta of the board's model into its flash, as `save` does, and run it. What was saved before stays for `undo`.

        Raises:
            RuntimeError: it is of another model, has no room, or the board's sketch is older than this command.
        """
        sequence = (self.saved_delta().sequence + 1) % 2**32 if self.status().get("saves") else 1
        data = dataclasses.replace(delta, sequence=sequence).to_bytes()
        for offset in range(0, len(data), _BLOCK_BYTES):
            block = data[offset : offset + _BLOCK_BYTES].ljust(_BLOCK_BYTES, b"\xff")
            self._ask(f"BLOCK {offset}", np.frombuffer(block, np.uint8))
        self._ask(f"ADOPT {sequence}")

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Labels int (N,) of samples (N, ...); -1 where a sample is of no class."""
        return np.array([read_label(self._ask("PREDICT", image)[-1]) for image in self._quantised(x)], int)

    def predict_recorded(self) -> int:
        """Label of a sample that the board records now; -1: of no class. Raises RuntimeError where there was nothing to record."""
        return read_label(self._ask("PREDICT")[-1])

    def familiarity(self) -> tuple[float, float]:
        """(familiarity of the sample that was predicted last, threshold below which it is of no class).

        With one class the familiarity tells what is normal: the lower, the more of an anomaly.

        Raises:
            RuntimeError: the board tells no unknown samples, or was not solved.
        """
        return read_familiarity(self._ask("FAMILIARITY")[-1])

    def save(self) -> None:
        """Keep what runs now in the board's flash: what was learned or, after `revert` and `reset`, that nothing was."""
        self._ask("SAVE")

    def undo(self) -> None:
        """Take back the last `save` for good: what was saved before it runs again. RuntimeError: there is nothing older."""
        self._ask("UNDO")

    def revert(self) -> None:
        """Go back to the weights as exported. The samples stay. A delta that was saved in flash comes back after a power cycle."""
        self._ask("REVERT")

    def reset(self) -> None:
        """As `revert`, and the samples are forgotten too."""
        self._ask("RESET")

    def factory(self) -> None:
        """Go back to the weights as exported for good: the samples and all that was saved in flash are forgotten."""
        self._ask("FACTORY")

    def _quantised(self, x: np.ndarray) -> np.ndarray:
        status = self.status()
        if status["records"]:
            raise ValueError(
                "This board records its samples itself: use `teach_recorded` or `predict_recorded` (on the command line: leave "
                "--samples out)."
            )
        return quantise_samples(typing.cast(ModelInput, status), x)

    def _ask(self, command: str, image: np.ndarray | None = None) -> list[str]:
        return list(self._answers(command, image))

    def _answers(self, command: str, image: np.ndarray | None = None) -> collections.abc.Iterator[str]:
        """The lines of an answer. The last one is yielded without its "OK "."""
        data = b"" if image is None else image.tobytes()
        check = f" {zlib.crc32(data)}" if image is not None and self._checks_images else ""
        self._serial.write(f"{command}{check}\n".encode() + data)
        deadline = math.inf if command == "TRAIN" else time.monotonic() + self._answer_seconds
        while True:
            try:
                line = self._lines.read(deadline)
            except TimeoutError:
                raise RuntimeError(
                    f"The board did not answer to {command} within {self._answer_seconds:g} s. Is it still there?"
                ) from None
            if line.startswith("ERROR"):
                raise RuntimeError(f"The board answered to {command}: {line.removeprefix('ERROR ')}")
            if line == "OK" or line.startswith("OK "):
                yield line.removeprefix("OK").strip()
                return
            if not line.startswith(_LINES_OF.get(command, ())):
                raise no_board(line, "OK or ERROR")
            yield line

    def _await(self, port: str, patience: float) -> None:
        """Wait until a board answers STATUS, then until it is quiet. Lines that it sent before, and answers to others, are dropped."""
        from serial import SerialTimeoutException

        deadline = time.monotonic() + patience
        for filler in itertools.chain(_FILLERS, itertools.repeat(_FILLERS[-1])):
            with contextlib.suppress(SerialTimeoutException):  # nobody reads, as yet
                self._serial.write(b"\n" * filler + b"STATUS\n")
            if self._hears(min(deadline, _soon()), lambda line: line.startswith("OK network ")):
                break
            if time.monotonic() >= deadline:
                raise self._nobody(port, patience)
        while self._hears(_soon(), lambda line: True):
            if time.monotonic() >= deadline:
                raise no_board(self._lines.last, "silence after the answer to STATUS")

    def _hears(self, until: float, wanted: collections.abc.Callable[[str], bool]) -> bool:
        """Whether such a line comes until then."""
        with contextlib.suppress(TimeoutError):
            while not wanted(self._lines.read(until)):
                pass
            return True
        return False

    def _nobody(self, port: str, patience: float) -> RuntimeError:
        if self._lines.last:
            return no_board(self._lines.last, f"an answer to STATUS within {patience:g} s")
        return RuntimeError(
            f"Nobody answers at {port} within {patience:g} s. Is the bundle's sketch on the board, and its serial monitor closed?"
        )


def _soon() -> float:
    return time.monotonic() + _QUIET_SECONDS
