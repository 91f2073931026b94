"""A program: the smallest arena in which TensorFlow Lite Micro runs a model. `_arena_probe.py MODEL.tflite` prints the bytes.

Too small an arena ends some processes instead of raising, so every size is tried in a process of its own.
"""

import os
import re
import sys
import tempfile
import typing

from keras_tinytrain.tflm_runtime.rounding import ALIGNMENT, align


def smallest_arena(model: bytes) -> int:
    """The smallest multiple of 16 bytes with which the model runs."""
    roomy = 1 << 16
    while not runs(model, roomy):
        roomy *= 2
        if roomy > 1 << 31:
            raise ValueError("TensorFlow Lite Micro cannot run this model.")
    reported = reported_bytes(model, roomy)
    if runs(model, reported):
        return reported
    too_small, enough = reported, reported + ALIGNMENT  # what TFLM needs only while it starts is not in its report
    while not runs(model, enough):
        too_small, enough = enough, enough + 2 * (enough - reported)
    while enough - too_small > ALIGNMENT:
        middle = align((too_small + enough) // 2)
        too_small, enough = (too_small, middle) if runs(model, middle) else (middle, enough)
    return enough


def runs(model: bytes, arena_bytes: int) -> bool:
    """Whether a child process gets through one inference."""
    child = os.fork()
    if child == 0:
        _silence()
        try:
            _interpreter(model, arena_bytes).invoke()
        except BaseException:  # a child of fork must not return  # noqa: BLE001
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def reported_bytes(model: bytes, arena_bytes: int) -> int:
    """The bytes that TFLM reports to have used of its arena, rounded up to 16."""
    with tempfile.TemporaryFile() as sink:
        child = os.fork()
        if child == 0:
            os.dup2(sink.fileno(), 2)
            _interpreter(model, arena_bytes).print_allocations()
            os._exit(0)
        os.waitpid(child, 0)
        sink.seek(0)
        found = re.search(rb"Arena allocation total (\d+) bytes", sink.read())
    if not found:
        raise ValueError("This tflite-micro does not report its arena; install the release that keras-tinytrain pins.")
    return align(int(found[1]))


def _interpreter(model: bytes, arena_bytes: int) -> typing.Any:
    from tflite_micro import runtime

    return runtime.Interpreter.from_bytes(model, arena_size=arena_bytes)


def _silence() -> None:
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)


if __name__ == "__main__":
    from tflite_micro import runtime  # noqa: F401  once, before the children

    try:
        with open(sys.argv[1], "rb") as file:
            print(smallest_arena(file.read()))
    except ValueError as error:
        sys.exit(str(error))
