"""The code of the user's TensorFlow Lite Micro on a board, operator by operator, as a linker leaves it."""

import os
import subprocess
import tempfile
from collections.abc import Collection

from keras_tinytrain.export.boards import board
from keras_tinytrain.export.templates import resolver_method
from keras_tinytrain.run.arena_on_board import pretended
from keras_tinytrain.run.firmware import build_program
from keras_tinytrain.run.users_tflm import UsersTflm, users_tflm
from keras_tinytrain.tflm_runtime import firmware_dir

FIRST = "CONV_2D"  # an interpreter has one operator at least


def measure_code(operators: Collection[str]) -> dict[str, int | None]:
    """Bytes of flash that the TensorFlow Lite Micro which the user has named takes, without the C library.

    Args:
        operators: names of operators, such as "ADD".

    Returns:
        {"CONV_2D": of the interpreter with that operator alone, others: what each adds to it}. None: the library does not have it.

    Raises:
        ValueError: no TensorFlow Lite Micro is named, or it cannot be used.
        RuntimeError: a compiler is missing.
    """
    library = users_tflm()
    if library is None:
        raise ValueError("Code is measured of a TensorFlow Lite Micro of yours: name it in TFLM_INCLUDE_DIRS and TFLM_LIBRARY.")
    first = _linked_bytes(library, [FIRST])
    return {FIRST: first} | {each: _added(library, each, first) for each in operators if each != FIRST}


def _added(library: UsersTflm, operator: str, first: int) -> int | None:
    try:
        return _linked_bytes(library, [FIRST, operator]) - first
    except RuntimeError as error:
        if library.explain(str(error)) is None:
            raise
        return None


def _linked_bytes(library: UsersTflm, operators: list[str]) -> int:
    resolver = " ".join(f"resolver.{resolver_method(name)}();" for name in operators)
    flags = [f"-DRESOLVER={resolver}", f"-DNUM_OPERATORS={len(operators)}", "-std=gnu++17"]
    flags += [f"-isystem{folder}" for folder in library.includes]
    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder:
        sources = [firmware_dir() / "measure_code.cpp", library.library]
        options = [*library.flags(), "-Os"]
        program = build_program(sources, folder, board=pretended(board("nano33ble")), flags=flags, options=options)
        return _code_bytes(program)


def _code_bytes(program: str | os.PathLike) -> int:
    """All that is in flash, without the core."""
    listed = subprocess.run(["arm-none-eabi-nm", program], check=True, capture_output=True, text=True).stdout
    addresses = {name: int(address, 16) for address, _, name in map(str.split, filter(None, listed.splitlines())) if address}
    return addresses["flash_used"] - (addresses["core_end"] - addresses["core_begin"])
