"""A board's answers, line by line: what is read, for how long, and what is taken for a board's."""

import math
import re
import time
import typing

from keras_tinytrain.fewshot.unknown import UNKNOWN

_MAX_LINE_BYTES = 2048  # of a board: a layer's name, or the answer to STATUS
_MAX_IMAGE_BYTES = 1 << 24
_BOUNDS = {  # of whole numbers in the answer to STATUS: least, largest
    "height": (1, _MAX_IMAGE_BYTES),
    "width": (1, _MAX_IMAGE_BYTES),
    "channels": (1, _MAX_IMAGE_BYTES),
    "zero_point": (-128, 127),
    "classes": (1, 255),
    "max_samples": (1, 65535),
    "samples": (0, 65535),
    "iterations": (0, 2**31 - 1),
    "records": (0, 1),
    "protocol": (1, 2**31 - 1),
    "saves": (0, 2),
    "lasting": (0, 1),
}
_NEEDED = {"network", "scale", *list(_BOUNDS)[:9]}  # protocol 1 tells no more


class Lines:
    """The lines that a serial port of pyserial sends.

    Args:
        port: opened with a timeout, a fraction of a second.

    Attributes:
        last: the last line, or what came of it.
    """

    def __init__(self, port: typing.Any):
        self._port = port
        self._begun = b""
        self.last = ""

    def read(self, deadline: float = math.inf) -> str:
        """The next line, without its end.

        Args:
            deadline: of `time.monotonic`.

        Raises:
            TimeoutError: the line was not complete at the deadline. What came of it is kept.
            RuntimeError: it is longer than any of a board's.
        """
        while not self._begun.endswith(b"\n"):
            if len(self._begun) > _MAX_LINE_BYTES:
                raise no_board(_text(self._begun), f"a line of at most {_MAX_LINE_BYTES} bytes")
            if time.monotonic() >= deadline:
                self.last = _text(self._begun) or self.last
                raise TimeoutError
            self._begun += self._port.read(1)
        self.last, self._begun = _text(self._begun), b""
        return self.last

    def read_bytes(self, count: int, deadline: float) -> bytes:
        """So many bytes after the last line. Raises TimeoutError where they have not come at the deadline."""
        data = b""
        while len(data) < count:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{len(data):,} of {count:,} bytes came in time.")
            data += self._port.read(min(count - len(data), 4096))
        return data


def _text(line: bytes) -> str:
    return line.decode("ascii", "backslashreplace").strip()


def no_board(received: str, expected: str) -> RuntimeError:
    """The error of an answer that no board gives."""
    return RuntimeError(
        f"There is no such board at this port: it sent {received[:120]!r}, {expected} was expected. Is the bundle's sketch on the board?"
    )


def read_status(lines: list[str]) -> dict[str, typing.Any]:
    """The values in a board's answer to STATUS: a line "HEAD <head>" of a closed-form head, lines "PLAN <layer> <channels>", then
    names and values by turns.

    Raises:
        RuntimeError: no board answers so.
    """
    *plan, last = lines
    head = [line.removeprefix("HEAD ") for line in plan if line.startswith("HEAD ")]
    plan = [line for line in plan if not line.startswith("HEAD ")]
    words = last.split()
    try:
        if len(words) % 2:
            raise ValueError("a value for each name")
        status: dict[str, typing.Any] = {name: _value(name, text) for name, text in zip(words[::2], words[1::2])}
        if lacking := _NEEDED - set(status):
            raise ValueError(", ".join(sorted(lacking)))
        if status["height"] * status["width"] * status["channels"] > _MAX_IMAGE_BYTES:
            raise ValueError(f"an image of at most {_MAX_IMAGE_BYTES:,} B")
    except ValueError as error:
        raise no_board(last, str(error)) from None
    answering = {"head": head[0]} if head else {}
    return {**status, **answering, "plan": dict(read_plan(line) for line in plan)}


def read_plan(line: str) -> tuple[str, int]:
    """Layer and number of channels of a line "PLAN <layer> <channels>". RuntimeError: it is none."""
    words = line.rsplit(" ", 1)
    if not line.startswith("PLAN ") or not _is_number(words[-1]):
        raise no_board(line, "PLAN <layer> <number of channels>")
    return words[0].removeprefix("PLAN "), int(words[1])


def read_loss(line: str) -> tuple[int, float]:
    """Iteration and loss of a line "LOSS <iteration> <loss>". RuntimeError: it is none."""
    words = line.split()
    if len(words) != 3 or words[0] != "LOSS" or not _is_number(words[1]):
        raise no_board(line, "LOSS <iteration> <loss>")
    try:
        return int(words[1]), float(words[2])
    except ValueError as error:
        raise no_board(line, "LOSS <iteration> <loss>") from error


class Sample(typing.NamedTuple):
    """A sample that a board keeps: its place, its label, and the CRC-32 of what is kept of it."""

    place: int
    label: int
    crc: int


def read_sample(line: str) -> Sample:
    """The sample of a line "SAMPLE <place> <label> <crc>". RuntimeError: it is none."""
    words = line.split()
    if len(words) != 4 or words[0] != "SAMPLE" or not all(map(_is_number, words[1:])):
        raise no_board(line, "SAMPLE <place> <label> <crc>")
    return Sample(*map(int, words[1:]))


def read_number(answer: str, name: str) -> int:
    """The number of an answer "<name> <number>". RuntimeError: it is none."""
    words = answer.split()
    if len(words) != 2 or words[0] != name or not _is_number(words[1]):
        raise no_board(answer, f"OK {name} <number>")
    return int(words[1])


def read_label(answer: str) -> int:
    """The class of an answer "label <number>", -1: of none. RuntimeError: it is none."""
    return UNKNOWN if answer == f"label {UNKNOWN}" else read_number(answer, "label")


def read_familiarity(answer: str) -> tuple[float, float]:
    """(familiarity, threshold) of an answer "familiarity <number> threshold <number>". RuntimeError: no board answers so."""
    found = re.fullmatch(r"familiarity (-?\d{1,4}\.\d{6}) threshold (-?\d{1,4}\.\d{6})", answer)
    if found is None:
        raise no_board(answer, "OK familiarity <number> threshold <number>")
    return float(found[1]), float(found[2])


def read_solved(answer: str) -> float:
    """Right samples as a fraction of all, of an answer "milliseconds <number> right <number> samples <number>".

    Raises:
        RuntimeError: no board answers so.
    """
    words = answer.split()
    numbers = words[1::2]
    if words[::2] != ["milliseconds", "right", "samples"] or len(numbers) != 3 or not all(map(_is_number, numbers)):
        raise no_board(answer, "OK milliseconds <number> right <number> samples <number>")
    right, samples = map(int, numbers[1:])
    if not 0 <= right <= samples or samples == 0:
        raise no_board(answer, "no more right samples than samples")
    return right / samples


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) < 11


def _value(name: str, text: str) -> str | int | float:
    """Raises ValueError, saying what was expected."""
    if name == "scale":
        scale = float(text) if len(text) < 40 else math.nan
        if not 0 < scale < math.inf:
            raise ValueError("a positive scale")
        return scale
    if name not in _BOUNDS:
        return text
    least, largest = _BOUNDS[name]
    if not _is_number(text.removeprefix("-")) or not least <= int(text) <= largest:
        raise ValueError(f"{name} from {least} to {largest}")
    return int(text)
