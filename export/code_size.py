"""Flash that code takes on a board: TensorFlow Lite Micro with the operators that are linked, this library, and a sketch."""

from collections.abc import Collection

# Bytes of .text, .rodata and .data on a Cortex-M4, linked with --gc-sections: TensorFlow Lite Micro of August 2026 at -Os, its kernels
# and CMSIS-NN of July 2026 at -O2. The first line is the interpreter with one convolution; each other, what an operator adds to it.
_CORE_BYTES = 61_284
_OPERATOR_BYTES = {
    "ADD": 11_616,
    "AVERAGE_POOL_2D": 3_580,
    "CONCATENATION": 4_480,
    "CONV_2D": 0,
    "DEPTHWISE_CONV_2D": 17_224,
    "DEQUANTIZE": 1_340,
    "ELU": 2_712,
    "EXPAND_DIMS": 1_552,
    "FULLY_CONNECTED": 16_428,
    "GATHER": 2_520,
    "HARD_SWISH": 1_600,
    "LEAKY_RELU": 1_528,
    "LOGISTIC": 5_648,
    "MAXIMUM": 7_000,
    "MAX_POOL_2D": 3_804,
    "MEAN": 5_048,
    "MINIMUM": 7_000,
    "MUL": 9_784,
    "PACK": 1_416,
    "PAD": 5_312,
    "PRELU": 4_232,
    "QUANTIZE": 2_916,
    "REDUCE_MAX": 3_348,
    "RELU": 1_304,
    "RELU6": 1_016,
    "RESHAPE": 1_720,
    "RESIZE_BILINEAR": 3_472,
    "RESIZE_NEAREST_NEIGHBOR": 3_284,
    "SHAPE": 564,
    "SOFTMAX": 9_096,
    "SPLIT": 1_892,
    "SQUEEZE": 1_248,
    "STRIDED_SLICE": 12_328,
    "SUB": 9_468,
    "SUM": 5_328,
    "TANH": 6_180,
    "TRANSPOSE": 2_996,
}
_OTHER_BYTES = 8_192
# How much of that other libraries take. Arduino's of 2023 is compiled at -Os: 55 KB with the operators of the backbones. ESP-NN was not
# measured: it has a second copy of many kernels.
_SHARES = {"cmsis-nn": 1.0, "reference": 1.0, "arduino": 0.56, "esp-nn": 1.25}
_RUNTIME_BYTES = 53_248  # this library at -Os, and a sketch with serial commands
CLOSED_FORM_BYTES = 9_728  # of a closed-form head, with the compiler's double arithmetic
_C_LIBRARY_BYTES = 12_288  # what both take of the C library; an Arduino core has it already, see Board.reserved_flash_bytes


def code_bytes(operators: Collection[str], kernels: str) -> int:
    """Bytes of code that a bundle needs beside the board's core.

    Args:
        operators: names of those in its models, such as "CONV_2D".
        kernels: a key of `choose.arena.KERNELS`.
    """
    tflm = _CORE_BYTES + sum(_OPERATOR_BYTES.get(name, _OTHER_BYTES) for name in operators)
    return _RUNTIME_BYTES + round(_SHARES[kernels] * tflm) + (_C_LIBRARY_BYTES if kernels != "arduino" else 0)
