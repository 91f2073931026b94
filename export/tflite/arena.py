"""How large TensorFlow Lite Micro's arena must be: on a board by rule, on this machine by asking it."""

import functools
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import types
import typing

import numpy as np

from keras_tinytrain._quiet import quiet
from keras_tinytrain.choose.arena import KERNELS, arena_bytes
from keras_tinytrain.export.tflite._culprit import culprits, unknown_operators
from keras_tinytrain.export.tflite.layer_names import Needs, needs_in_words
from keras_tinytrain.export.tflite.micro_graph import micro_graph


def micro_runtime() -> types.ModuleType:
    """The module `tflite_micro.runtime`. Raises ImportError with what to install."""
    try:
        from tflite_micro import runtime
    except ImportError as error:
        raise ImportError(
            "Planning arenas and running a bundle on the host need TensorFlow Lite Micro's Python package `tflite-micro`. "
            'Install it with: pip install "keras-tinytrain[host]"'
        ) from error
    return runtime


class MicroInterpreter(typing.Protocol):
    """The interpreter of `tflite_micro`, as far as it is used here."""

    def get_input_details(self, index: int) -> dict[str, typing.Any]:
        """Shape and type of an input."""

    def set_input(self, x: np.ndarray, index: int) -> None:
        """Copy an input in."""

    def get_output(self, index: int) -> np.ndarray:
        """A copy of an output."""

    def invoke(self) -> None:
        """Run the model."""


def new_interpreter(model_bytes: bytes, arena_bytes: int) -> MicroInterpreter:
    """An interpreter of `tflite_micro`. It reads constants from `model_bytes` itself, so keep a reference.

    Raises:
        ValueError: TFLM cannot run the model in so many bytes. The error has its own words.
    """
    runtime = micro_runtime()
    with quiet() as output:
        try:
            return runtime.Interpreter.from_bytes(model_bytes, arena_size=arena_bytes)
        except RuntimeError as error:
            reason = output().strip() or error
    raise ValueError(f"TensorFlow Lite Micro does not run the model in an arena of {arena_bytes} B: {reason}")


@functools.lru_cache(maxsize=256)
def board_arena(model_bytes: bytes, kernels: str) -> int:
    """The arena that a 32-bit board needs for a model, in bytes.

    Of an operator whose bytes no table knows, TensorFlow Lite Micro is asked on this machine, where it needs no less.

    Args:
        model_bytes: a .tflite file.
        kernels: a key of `choose.arena.KERNELS`.

    Raises:
        ImportError, ValueError: as `smallest_arena`, where that is asked.
    """
    graph = micro_graph(model_bytes)
    needed = arena_bytes(graph, KERNELS[kernels])
    if graph.is_known:
        return needed
    return needed + max(smallest_arena(model_bytes) - arena_bytes(graph, KERNELS["reference"]), 0)


@functools.lru_cache(maxsize=16)
def smallest_arena(model_bytes: bytes) -> int:
    """The smallest multiple of 16 bytes with which TFLM runs the model on this machine: a size that was run.

    Asking takes seconds, so the answers are remembered: an export and the host run after it ask for the same models.
    Pointers take 8 bytes on a 64-bit host. For a board see `board_arena`.

    Raises:
        ImportError: tflite-micro is not installed.
        ValueError: TFLM cannot run the model. The operators and their layers are named.
    """
    micro_runtime()
    arena, reason = _ask(model_bytes)
    if arena is None:
        found = culprits(model_bytes, _runs)
        if not found:
            raise ValueError(f"TensorFlow Lite Micro could not be asked for its arena: {reason}")
        raise ValueError(
            f"{needs_in_words(found)}, which TensorFlow Lite Micro cannot run: replace the layer{'s' * (len(set(found)) > 1)}."
        )
    return arena


def unknown_to_micro(model_bytes: bytes) -> Needs:
    """Operators that TensorFlow Lite Micro does not have. Where it is not installed, the list is empty."""
    return unknown_operators(model_bytes, _runs) if importlib.util.find_spec("tflite_micro") else []


def _runs(part: bytes) -> bool:
    return _ask(part)[0] is not None


def _ask(model_bytes: bytes) -> tuple[int | None, str]:
    """(the smallest arena, ""), or (None, why there is none), by a process of its own."""
    probe = pathlib.Path(__file__).with_name("_arena_probe.py")
    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder:
        model = pathlib.Path(folder, "model.tflite")
        model.write_bytes(model_bytes)
        done = subprocess.run([sys.executable, str(probe), str(model)], capture_output=True, text=True, check=False)
    return (None, done.stderr.strip()[-1000:]) if done.returncode else (int(done.stdout), "")
