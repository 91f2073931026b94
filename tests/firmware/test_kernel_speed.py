"""Instructions per multiply-accumulate on a Cortex-M4F, at shapes of MCUNet-5fps and with the Arduino core's flags.

Only MACs that touch the input are counted, so windows at a border are paid for. The counts repeat exactly.
"""

import dataclasses
import pathlib
import struct
import subprocess

import numpy as np
import pytest

from keras_tinytrain.export import board
from keras_tinytrain.export.emulator import COMMAND
from keras_tinytrain.export.firmware import build_program, compile_sources
from tests.runtime.small_net import SOURCES

BOARD = dataclasses.replace(board("nano33ble"), sram_bytes=2**20)  # a whole layer with its gradients
SOURCE = pathlib.Path(__file__).with_name("kernel_speed.cpp")
POINTWISE_INPUT = "tinytrain::PointwiseBackwardInput(d_input, d_output, kernel, scales, kPixels, kShape.input_channels, " \
    "kShape.output_channels)"
POINTWISE_KERNEL = "tinytrain::PointwiseBackwardKernel(d_kernel, nullptr, d_output, input, 3, list, kPixels, " \
    "kShape.input_channels, kShape.output_channels)"
DEPTHWISE_INPUT = "tinytrain::DepthwiseBackwardInput(d_input, d_output, kernel, scales, kShape)"
DEPTHWISE_KERNEL = "tinytrain::DepthwiseBackwardKernel(d_kernel, nullptr, d_output, input, 3, list, kShape)"


def pointwise(side, inputs, outputs):
    return (side, side, inputs, side, side, outputs, 1, 1, 1, 1, 0, 0)


def depthwise(side, channels, size, stride=1):
    output = -(-side // stride)
    return (side, side, channels, output, output, channels, size, size, stride, stride, size // 2, size // 2)


def macs(shape, num_channels):
    """Products of a gradient and an input (or weight) that is not padding; all channels of a depthwise one by itself."""
    ih, iw, ic, oh, ow, oc, kh, kw, sh, sw, pt, pl = shape
    if kh == 1:
        return oh * ow * ic * num_channels
    rows = [np.sum((0 <= (y := np.arange(o)[:, None] * s - p + np.arange(k))) & (y < i))
            for o, s, p, k, i in ((oh, sh, pt, kh, ih), (ow, sw, pl, kw, iw))]
    return int(rows[0] * rows[1]) * num_channels


CASES = {  # kernel, shape, trained channels, instructions a MAC at most
    "pointwise input 8x8 192-48": (POINTWISE_INPUT, pointwise(8, 192, 48), 48, 3.0),
    "pointwise input 4x4 480-96": (POINTWISE_INPUT, pointwise(4, 480, 96), 96, 3.2),
    "pointwise kernel 8x8 192-48": (POINTWISE_KERNEL, pointwise(8, 192, 48), 48, 3.0),
    "pointwise kernel 4x4 480-96": (POINTWISE_KERNEL, pointwise(4, 480, 96), 48, 3.2),
    "depthwise input 8x8x192 7x7": (DEPTHWISE_INPUT, depthwise(8, 192, 7), 192, 5.0),
    "depthwise input 8x8x192 5x5": (DEPTHWISE_INPUT, depthwise(8, 192, 5), 192, 5.3),
    "depthwise input 16x16x96 3x3": (DEPTHWISE_INPUT, depthwise(16, 96, 3), 96, 5.5),
    "depthwise kernel 8x8x192 7x7": (DEPTHWISE_KERNEL, depthwise(8, 192, 7), 96, 5.1),
    "depthwise kernel 8x8x192 5x5": (DEPTHWISE_KERNEL, depthwise(8, 192, 5), 96, 5.4),
    "depthwise kernel 16x16x96 3x3": (DEPTHWISE_KERNEL, depthwise(16, 96, 3), 96, 5.6),
}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    return compile_sources([SOURCES / "tinytrain_kernels.cpp"], tmp_path_factory.mktemp("kernels"), flags=["-std=gnu++14"])


@pytest.mark.parametrize("name", CASES)
def test_instructions_per_mac(name, kernels, tmp_path, capsys):
    call, shape, num_channels, limit = CASES[name]
    num_weights = shape[5] * (shape[6] * shape[7] if shape[6] > 1 else shape[2])
    flags = [f"-DKERNEL={call}", f"-DSHAPE={', '.join(map(str, shape))}", f"-DNUM_WEIGHTS={num_weights}",
             f"-DNUM_CHANNELS={num_channels}", f"-I{SOURCES}", "-std=gnu++14"]
    program = build_program([SOURCE, *kernels], tmp_path, board=BOARD, flags=flags)
    done = subprocess.run([*COMMAND, "-kernel", program], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    per_mac = struct.unpack("<Q", done.stdout)[0] / macs(shape, num_channels)
    with capsys.disabled():
        print(f"\n{name}: {per_mac:.2f} instructions a MAC", end="")
    assert per_mac <= limit
