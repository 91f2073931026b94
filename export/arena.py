"""Ask TensorFlow Lite Micro itself how large its arena must be."""

import re

from keras_tinytrain.quiet import quiet

from .flatbuffer import read_model
from .memory import ALIGNMENT, align


def micro_runtime():
    """The module `tflite_micro.runtime`. Raises ImportError with what to install."""
    try:
        from tflite_micro import runtime
    except ImportError as error:
        raise ImportError(
            "Planning arenas and running a bundle on the host need TensorFlow Lite Micro's Python package `tflite-micro`. "
            'Install it with: pip install "keras-tinytrain[host]"'
        ) from error
    return runtime


def new_interpreter(model_bytes: bytes, arena_bytes: int):
    """An interpreter of `tflite_micro`; it reads constants from `model_bytes` itself, so keep a reference.

    Raises:
        ValueError: TFLM cannot run the model in so many bytes; with its own words.
    """
    runtime = micro_runtime()
    with quiet() as output:
        try:
            return runtime.Interpreter.from_bytes(model_bytes, arena_size=arena_bytes)
        except RuntimeError as error:
            reason = output().strip() or error
    raise ValueError(f"TensorFlow Lite Micro does not run the model in an arena of {arena_bytes} B: {reason}")


def used_bytes(interpreter) -> int:
    """What a running interpreter reports as used of its arena, rounded up to 16."""
    with quiet() as output:
        interpreter.print_allocations()
        found = re.search(r"Arena allocation total (\d+) bytes", output())
    if not found:
        raise RuntimeError("This tflite-micro does not report its arena; install the release that keras-tinytrain pins.")
    return align(int(found[1]))


def smallest_arena(model_bytes: bytes) -> int:
    """The smallest multiple of 16 bytes with which TFLM runs the model on this machine.

    TFLM is asked what it used of a roomy arena. Its answer leaves out what it needs only while it starts, so sizes from there
    on are tried: the result is one that was run. Pointers take 8 bytes on a 64-bit host; a 32-bit board needs a little less.
    """
    roomy = align(_largest_need(model_bytes))
    reported = used_bytes(new_interpreter(model_bytes, roomy))
    if _runs(model_bytes, reported):
        return reported
    too_small, enough = reported, reported + ALIGNMENT  # what TFLM needs only while it starts is not in its report
    while not _runs(model_bytes, enough):
        too_small, enough = enough, enough + 2 * (enough - reported)
    while enough - too_small > ALIGNMENT:
        middle = align((too_small + enough) // 2)
        too_small, enough = (too_small, middle) if _runs(model_bytes, middle) else (middle, enough)
    return enough


def _largest_need(model_bytes):
    """Room for all tensors side by side and ample bookkeeping."""
    graph = read_model(model_bytes).subgraphs[0]
    elements = sum(_product(tensor.shape) for tensor in graph.tensors)
    return 4 * elements + 4096 * (len(graph.operators) + len(graph.tensors)) + 65536


def _product(shape):
    size = 1
    for length in [] if shape is None else shape:
        size *= int(length)
    return size


def _runs(model_bytes, arena_bytes):
    try:
        interpreter = new_interpreter(model_bytes, arena_bytes)
    except ValueError:
        return False
    with quiet():
        interpreter.invoke()
    return True
