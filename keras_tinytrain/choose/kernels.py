"""The kernels that a board's TensorFlow Lite Micro is built with, and the scratch that each operator asks of them.

A scratch buffer lies in the arena while its operator runs. Sizes are in bytes and follow the libraries' own rules:
- reference: Prepare of each operator in tensorflow/lite/micro/kernels.
- CMSIS-NN for a Cortex-M with the DSP extension: arm_*_get_buffer_sizes_s8.c (July 2026). Those of 2023 ask for more of 3x3
  depthwise convolutions and of strided 1x1 convolutions; so do Arduino's libraries, which have them.
- ESP-NN for an ESP32-S3: esp_nn_get_*_scratch_size_esp32s3 (version of April 2026).
"""

import math
from collections.abc import Callable
from typing import NamedTuple


class Operator(NamedTuple):
    """One operator, as far as TensorFlow Lite Micro's memory depends on it.

    Args:
        kind: its name in TensorFlow Lite, such as "CONV_2D".
        input, output: shapes of its first input and its output, without the batch axis.
        window: height and width of its kernel.
        strides, pads: down and right; pads are those at the top and at the left.
        channels: output channels with a multiplier each; 0 where there is one multiplier for all, or none.
    """

    kind: str
    input: tuple[int, ...] = ()
    output: tuple[int, ...] = ()
    window: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    channels: int = 0

    @property
    def taps(self) -> int:
        return math.prod(self.window)


Scratch = Callable[[Operator], tuple[int, ...]]  # bytes of each buffer that an operator asks for


def reference(op: Operator) -> tuple[int, ...]:
    """Of the reference kernels."""
    if op.kind in ("MEAN", "SUM"):  # an int32 for each output, indices for each axis, and the axes
        return 4 * math.prod(op.output), 16, 16
    if op.kind in ("REDUCE_MAX", "REDUCE_MIN"):
        return 16, 16
    if op.kind == "TRANSPOSE_CONV":
        return (4 * math.prod(op.output),)
    return ()


def cmsis_nn(op: Operator) -> tuple[int, ...]:
    """Of CMSIS-NN as of 2026."""
    if op.kind == "CONV_2D":  # two columns of int16 patches, each a multiple of four values
        return () if op.window == (1, 1) else _some(4 * _up(op.taps * op.input[-1], 4))
    if op.kind == "DEPTHWISE_CONV_2D":  # patches in int16, where each input channel has one output channel
        small = op.window == (3, 3) and max(op.pads) <= 1
        return () if small else _some(2 * op.taps * op.input[-1] * (op.input[-1] == op.output[-1]))
    if op.kind == "AVERAGE_POOL_2D":  # an int32 for each channel
        return _some(4 * op.input[-1])
    if op.kind == "FULLY_CONNECTED" and len(op.output) > 1 and op.input[-1] % 4 == 0:  # runs as a 1x1 convolution
        return (8 * op.output[-1],)
    return reference(op)


def cmsis_nn_2023(op: Operator) -> tuple[int, ...]:
    """Of CMSIS-NN as Arduino's libraries have it: at least as much as today's."""
    if op.kind == "CONV_2D" and op.strides != (1, 1):
        return _some(4 * _up(op.taps * op.input[-1], 4))
    if op.kind == "DEPTHWISE_CONV_2D":
        return _some(2 * op.taps * op.input[-1] * (op.input[-1] == op.output[-1]))
    return cmsis_nn(op)


def esp_nn(op: Operator) -> tuple[int, ...]:
    """Of ESP-NN on an ESP32-S3."""
    if op.kind == "CONV_2D":
        return (_esp_convolution(op),)
    if op.kind == "DEPTHWISE_CONV_2D":
        return _some(_esp_depthwise(op))
    if op.kind == "SOFTMAX":
        return _some(4 * op.input[-1])
    return reference(op)


def _esp_convolution(op: Operator) -> int:
    """Copies of the filter and of the input, padded to whole vectors; 64 B are alignment and a margin."""
    height, width, inputs = op.input
    outputs, row, window = op.output[-1], op.window[1] * inputs, op.taps * inputs
    if op.window == (1, 1) and op.strides == (1, 1):
        padded = _up(inputs, 8)
        transposed = 16 * padded if height * width >= 8 else 0
        return (height * width * padded if inputs % 8 else 0) + padded * outputs + transposed + 64
    if row < 16 <= window:
        return outputs * 4 + 16 + (outputs + 1) * _up(window, 16) + 16 + 64
    (above, left), (below, right) = op.pads, _missing(op)
    padded_input = (height + 2 * above) * (width + 2 * left) * inputs if above or left else 0
    completed = (height + below) * (width + right) * inputs if below or right else 0
    filters = (op.taps * _up(inputs, 16) + _up(row, 16) * op.window[0]) * outputs
    return padded_input + filters + completed + 64 + 4 * outputs


def _esp_depthwise(op: Operator) -> int:
    """Copies of the filter and of the input, in int8 for windows of 3x3 and in int16 for others."""
    (height, width, channels), outputs = op.input, op.output[-1]
    num_filters, num_inputs = op.taps * outputs, height * width * channels
    if outputs == channels and channels % 8 == 0:
        if op.window != (3, 3):
            whole = 2 * (num_filters + num_inputs)
            return (whole if whole <= 48 * 1024 else 2 * (num_filters + width * op.window[0] * channels)) + 32
        if channels % 16 == 0:
            return _esp_depthwise_3x3(op)
        if channels >= 12:
            return _esp_depthwise_padded(op)
        return 2 * (num_filters + num_inputs) + 32
    if outputs == channels and channels > 3:
        padded = _up(channels, 8)
        copies = _up(_up(2 * op.taps * padded, 16) + 2 * height * width * padded, 16)
        return _up(copies + math.prod(op.output[:2]) * padded, 16) + 12 * padded + 16
    if outputs % channels == 0 and outputs // channels % 4 == 0:
        return 2 * (num_filters + num_inputs) + 32
    return 32


def _esp_depthwise_3x3(op: Operator) -> int:
    height, width, channels = op.input
    down, right = (2 * pad for pad in op.pads) if any(op.pads) else _missing(op)
    if not down and not right:
        return 9 * channels + 16
    whole = (height + down) * (width + right) * channels
    return 9 * channels + (whole if whole <= 40 * 1024 else (width + right) * 3 * channels) + 16


def _esp_depthwise_padded(op: Operator) -> int:
    (height, width, channels), (below, right) = op.input, _missing(op)
    padded, (above, left) = _up(channels, 16), op.pads
    inputs = (height + 2 * above + below) * (width + 2 * left + right)
    return (9 + inputs + math.prod(op.output[:2])) * padded + 64


def _missing(op: Operator) -> tuple[int, int]:
    """Rows and columns that the last windows reach beyond the input, as ESP-NN counts them."""
    sizes = zip(op.output, op.strides, op.window, op.input)
    down, right = (max(0, outputs * stride + window - 1 - inputs) for outputs, stride, window, inputs in list(sizes)[:2])
    return down, right


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _some(num_bytes: int) -> tuple[int, ...]:
    return (num_bytes,) if num_bytes else ()
