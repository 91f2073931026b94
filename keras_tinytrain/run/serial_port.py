"""A board that runs a bundle's sketch, from the PC at the other end of its serial port."""

import collections.abc
import time
import types
import typing

import numpy as np

from keras_tinytrain.data.labels import check_labels
from keras_tinytrain.export.bundle_folder import ModelInput
from keras_tinytrain.run.bundle_runtime import Progress
from keras_tinytrain.run.quantise import quantise_samples

_KINDS: dict[str, type] = {"scale": float, "network": str}  # in the answer to STATUS; all else is int


class Device:
    """A board that is taught over its serial port; the commands stand at the top of the bundle's sketch.

    A context manager: leaving it closes the port. Neither TensorFlow nor the bundle is needed: the board tells its input's shape.

    Args:
        port: its name, such as "/dev/ttyACM0" or "COM3", or a URL of pyserial.
        baudrate: of ports that have one; the sketch's.
        patience: seconds to wait for a board that is still starting, or for an image that will not be completed.

    Raises:
        ImportError: pyserial is not installed.
        OSError: the port cannot be opened.
        RuntimeError: nobody answers there.

    Example:
        >>> with Device("/dev/ttyACM0") as board:  # doctest: +SKIP
        ...     board.teach(x_support, y_support)
        ...     losses = board.train()
        ...     labels = board.predict(x_query)
    """

    def __init__(self, port: str, *, baudrate: int = 115200, patience: float = 15.0):
        try:
            import serial
        except ImportError as error:
            raise ImportError("Talking to a board needs pyserial: pip install keras-tinytrain[device]") from error
        self._serial = serial.serial_for_url(port, baudrate=baudrate, timeout=1.0)
        try:
            self._await(port, patience)
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
            it trains or, with candidates, that it chose last; empty before the first choice.
        """
        *plan, status = self._ask("STATUS")
        words = status.split()
        numbers = {name: _KINDS.get(name, int)(value) for name, value in zip(words[::2], words[1::2])}
        layers = (line.removeprefix("PLAN ").rsplit(" ", 1) for line in plan)
        return {**numbers, "plan": {name: int(num_channels) for name, num_channels in layers}}

    def teach(self, x: np.ndarray, y: collections.abc.Iterable[int]) -> int:
        """Add samples (N, ...) in the model's own convention, with labels (N,). Returns how many the board has now.

        Raises:
            ValueError: the samples do not have the shape of the network's input, the board does not know a label, or it has
                no place for so many; it gets none of them then.
            RuntimeError: the board refuses one. The error has its own words.
        """
        images, labels, status = self._quantised(x), list(y), self.status()
        check_labels(np.asarray(labels, int), len(images), status["classes"])
        if status["samples"] + len(labels) > status["max_samples"]:
            raise ValueError(
                f"The board keeps {status['max_samples']} samples and has {status['samples']}, so {len(labels)} more have no place: "
                "send fewer, or forget those that it has (reset)."
            )
        samples = zip(images, labels, strict=True)
        counts = [int(self._ask(f"TEACH {int(label)}", image)[-1].split()[-1]) for image, label in samples]
        return counts[-1] if counts else self.status()["samples"]

    def teach_recorded(self, label: int) -> int:
        """Let the board record a sample of class `label` now, and add it. Returns how many it has now.

        Raises:
            RuntimeError: there was nothing to record, or the board refuses it.
        """
        return int(self._ask(f"TEACH {int(label)}")[-1].split()[-1])

    def train(self, progress: Progress | None = None) -> list[float]:
        """Train on the board's samples; `progress(iteration, loss)` is called after each. Returns the loss before each iteration."""
        losses: list[float] = []
        for line in self._answers("TRAIN"):
            if line.startswith("LOSS "):
                _, iteration, loss = line.split()
                losses.append(float(loss))
                if progress:
                    progress(int(iteration), losses[-1])
        return losses

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Labels int (N,) of samples (N, ...)."""
        return np.array([int(self._ask("PREDICT", image)[-1].split()[-1]) for image in self._quantised(x)], int)

    def predict_recorded(self) -> int:
        """Label of a sample that the board records now. Raises RuntimeError where there was nothing to record."""
        return int(self._ask("PREDICT")[-1].split()[-1])

    def save(self) -> None:
        """Keep what was learned in the board's flash."""
        self._ask("SAVE")

    def revert(self) -> None:
        """Go back to the weights as exported. The samples stay."""
        self._ask("REVERT")

    def reset(self) -> None:
        """Go back to the weights as exported, without samples. A delta that was saved in flash stays."""
        self._ask("RESET")

    def _quantised(self, x: np.ndarray) -> np.ndarray:
        status = self.status()
        if status["records"]:
            raise ValueError("This board records its samples itself: use teach_recorded, predict_recorded, or no --samples.")
        return quantise_samples(typing.cast(ModelInput, status), x)

    def _ask(self, command: str, image: np.ndarray | None = None) -> list[str]:
        return list(self._answers(command, image))

    def _answers(self, command: str, image: np.ndarray | None = None) -> collections.abc.Iterator[str]:
        """The lines of an answer. The last one is yielded without its "OK "."""
        self._serial.write(command.encode() + b"\n" + (b"" if image is None else image.tobytes()))
        while True:
            line = self._read_line()
            if line.startswith("ERROR"):
                raise RuntimeError(f"The board answered to {command}: {line.removeprefix('ERROR ')}")
            if line.startswith("OK"):
                yield line.removeprefix("OK").strip()
                return
            yield line

    def _read_line(self) -> str:
        """A line, however long it takes: training takes minutes on a small board, with a line for each iteration."""
        line = b""
        while not line.endswith(b"\n"):
            line += self._serial.readline()
        return line.decode(errors="replace").strip()

    def _await(self, port: str, patience: float) -> None:
        """Wait until a board answers STATUS. Lines that it sent before, and answers to other programs, are dropped."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            self._serial.write(b"STATUS\n")
            while (line := self._serial.readline()).startswith(b"PLAN "):
                pass
            if line.startswith(b"OK network "):
                while self._serial.readline():
                    pass
                return
        raise RuntimeError(
            f"Nobody answers at {port} within {patience:g} s. Is the bundle's sketch on the board, and its serial monitor closed?"
        )
