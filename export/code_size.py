"""Flash that code takes on a board: TensorFlow Lite Micro with the operators that are linked, this library, and a sketch."""

from collections.abc import Collection

# Bytes that `keras-tinytrain benchmark tflm --code` measures on a Cortex-M4, of the libraries of three keys of `KERNELS`. CONV_2D is
# the interpreter with that operator alone; each other, what an operator adds to it. Of August 2026 with CMSIS-NN of July 2026, and the
# same with reference kernels: kernels at -O2, the rest at -Os. Arduino's library of December 2023: -Os.
_LIBRARIES = ("cmsis-nn", "reference", "arduino")
_OPERATOR_BYTES = {
    "ADD": (11_576, 9_272, 5_568),
    "AVERAGE_POOL_2D": (3_640, 3_040, 2_800),
    "CONCATENATION": (4_544, 4_576, 3_248),
    "CONV_2D": (52_900, 31_700, 34_156),
    "DEPTHWISE_CONV_2D": (17_280, 5_256, 9_056),
    "DEQUANTIZE": (1_384, 1_384, 1_096),
    "ELU": (2_520, 2_520, 3_256),
    "EXPAND_DIMS": (1_600, 1_592, 1_416),
    "FULLY_CONNECTED": (16_480, 5_192, 5_120),
    "GATHER": (2_552, 2_552, 2_192),
    "HARD_SWISH": (1_656, 1_656, 1_272),
    "LEAKY_RELU": (1_584, 1_472, 1_408),
    "LOGISTIC": (5_496, 5_456, 4_832),
    "MAXIMUM": (6_936, 6_928, 2_320),
    "MAX_POOL_2D": (3_840, 3_160, 2_960),
    "MEAN": (5_104, 4_992, 4_824),
    "MINIMUM": (6_936, 6_928, 2_320),
    "MUL": (9_728, 7_840, 5_576),
    "PACK": (1_464, 1_464, 1_024),
    "PAD": (5_344, 5_552, 3_592),
    "PRELU": (4_280, 4_168, 1_896),
    "QUANTIZE": (2_952, 2_816, 2_536),
    "REDUCE_MAX": (3_408, 3_408, 3_128),
    "RELU": (1_360, 1_304, 1_032),
    "RELU6": (1_080, 1_136, 880),
    "RESHAPE": (1_752, 1_752, 1_648),
    "RESIZE_BILINEAR": (3_536, 3_544, 2_976),
    "RESIZE_NEAREST_NEIGHBOR": (3_360, 3_360, 2_104),
    "SHAPE": (632, 632, 624),
    "SOFTMAX": (9_080, 7_776, 7_944),
    "SPLIT": (1_944, 1_944, 1_480),
    "SQUEEZE": (1_296, 1_296, 1_280),
    "STRIDED_SLICE": (12_400, 12_400, 4_848),
    "SUB": (9_432, 9_432, 3_552),
    "SUM": (5_392, 5_280, 4_824),
    "TANH": (5_984, 5_936, 5_096),
    "TRANSPOSE": (3_032, 2_584, 1_648),
}
OPERATORS = tuple(_OPERATOR_BYTES)
_OTHER_BYTES = 8_192  # of an operator that the table does not have
# ESP-NN's share of CMSIS-NN's figures is an estimate: there is no compiler for an ESP32-S3 here, and it has many kernels twice.
_ESP_NN_SHARE = 1.25
# This library at -Os and a sketch: 58,527 to 59,758 as linked into three, with 2,571 less of operators, which share code.
_RUNTIME_BYTES = 58_624
CLOSED_FORM_BYTES = (
    17_408  # of a closed-form head: 14,699, and the double arithmetic of a compiler; 4 KB tell samples of no class
)
_C_LIBRARY_BYTES = 12_288  # what all of it takes of newlib-nano, and a start


def code_bytes(operators: Collection[str], kernels: str, *, has_core: bool, page_bytes: int = 0) -> int:
    """Bytes of code that a bundle needs beside the board's core, and of the gap before the first page that it writes.

    Args:
        operators: names of those in its models, such as "CONV_2D".
        kernels: a key of `choose.arena.KERNELS`.
        has_core: whether the board's reserve in flash has a core, and so a C library.
        page_bytes: of the flash, on whose pages alone learned things lie; 0: they lie nowhere.
    """
    tflm = sum(_library_bytes(name, kernels) for name in {"CONV_2D", *operators})
    return _RUNTIME_BYTES + tflm + page_bytes + (0 if has_core else _C_LIBRARY_BYTES)


def _library_bytes(operator: str, kernels: str) -> int:
    if kernels == "esp-nn":
        return round(_ESP_NN_SHARE * _library_bytes(operator, "cmsis-nn"))
    figures = _OPERATOR_BYTES.get(operator)
    return figures[_LIBRARIES.index(kernels)] if figures else _OTHER_BYTES
