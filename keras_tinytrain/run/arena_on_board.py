"""What the user's TensorFlow Lite Micro needs for a bundle's models, measured on an emulated board with much more memory."""

import dataclasses
import os
import struct
import subprocess
import tempfile

from keras_tinytrain.export.boards import Board
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.run.emulator import COMMAND
from keras_tinytrain.run.firmware import build_firmware
from keras_tinytrain.run.users_tflm import users_tflm

_ARENA_BYTES = 4 << 20
_PARTS = ("frozen_arena", "trainable_arena")


def pretended(board: Board) -> Board:
    """A board like `board` with all the memory of the emulated machine: 16 MB of SRAM, 4 MB of flash."""
    name = f"a pretended {board.name} with 16 MB"
    return dataclasses.replace(board, name=name, sram_bytes=16 << 20, flash_bytes=4 << 20, reserved_sram_bytes=0)


def measure_arenas(bundle: Bundle | str | os.PathLike) -> dict[str, int]:
    """The smallest arenas in which the models of a bundle open, with the TensorFlow Lite Micro that the user has named.

    Args:
        bundle: exported for a board with a Cortex-M4F, or its path.

    Returns:
        {"frozen_arena": bytes, "trainable_arena": bytes}, in steps of 16 B, with the keys of the manifest's "arenas".

    Raises:
        ValueError: no TensorFlow Lite Micro is named, it cannot be used, or it lacks an operator.
        RuntimeError: a compiler or the emulator is missing, or the models do not open.
    """
    if users_tflm() is None:
        raise ValueError(
            "Arenas are measured over a TensorFlow Lite Micro of yours: name it in TFLM_INCLUDE_DIRS and TFLM_LIBRARY."
        )
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder:
        large = pretended(Board(**bundle.manifest["board"]))
        program = build_firmware(bundle, folder, main="measure_arena.cpp", board=large, arena_bytes=_ARENA_BYTES)
        done = subprocess.run([*COMMAND, "-serial", "none", "-kernel", program], capture_output=True, timeout=600)
    arenas = dict(zip(_PARTS, struct.unpack("<2I", done.stdout), strict=True)) if len(done.stdout) == 8 else {}
    if not arenas.get("trainable_arena") or (bundle.frozen and not arenas["frozen_arena"]):
        raise RuntimeError(
            f"TensorFlow Lite Micro opens the models not even in {_ARENA_BYTES >> 20} MB: {done.stderr.decode(errors='replace')}"
            "see that its sources are newer than the model's operators."
        )
    return arenas
