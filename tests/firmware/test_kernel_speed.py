"""Instructions per multiply-accumulate on a Cortex-M4F, at shapes of the paper's networks and with the Arduino core's flags.

Only MACs that touch the input are counted, so windows at a border are paid for. No gradient is zero, which is the most
work. The counts repeat exactly.
"""

import dataclasses
import itertools
import pathlib
import struct
import subprocess

import numpy as np
import pytest

from keras_tinytrain.choose.backward_pass import planes_at_once
from keras_tinytrain.export import board
from keras_tinytrain.run.emulator import COMMAND
from keras_tinytrain.run.firmware import build_program, compile_sources
from tests.runtime.paths import SOURCES

BOARD = dataclasses.replace(board("nano33ble"), sram_bytes=2**21)  # a whole layer with its gradients
SOURCE = pathlib.Path(__file__).with_name("kernel_speed.cpp")
POINTWISE = {  # of the last six blocks: (side, input channels, output channels)
    "MCUNet": [(8, 192, 48), (8, 48, 240), (4, 240, 96), (4, 96, 384), (4, 384, 96), (4, 96, 576), (4, 576, 160)],
    "ProxylessNASNet": [(4, 192, 64), (4, 64, 384), (4, 384, 64), (4, 384, 96)],
    "MobileNetV2": [(6, 32, 192), (6, 192, 32), (3, 56, 336), (3, 336, 56), (3, 336, 112)],
}
DEPTHWISE = [(8, 192, 7), (8, 192, 5), (8, 192, 3), (4, 384, 7), (4, 384, 5), (4, 576, 3), (6, 192, 3), (3, 336, 3)]
STRIDED = [(8, 240, 8), (8, 192, 6), (6, 192, 4)]  # stride 2, with the padding absorbed; two or three blocks of a network
POINTWISE_LIMIT, DEPTHWISE_LIMIT = 3.0, 5.0
OVER = {  # what does not hold the limits, by kernel and side or shape, and today's figure, rounded up
    ("kPointwiseInputPlanes", 3): 3.3,  # 9 pixels: an int8 weight is made a float for no more
    ("kPointwiseKernelPlanes", (6, 192, 32)): 3.2,  # of 8 channels at a time, where others have 12 to 16
    ("kPointwiseKernelPlanes", (3, 56, 336)): 3.1,
    ("kDepthwiseInput", (4, 384, 5)): 5.2,  # a whole tensor: gradients are put together first; no bottleneck does so
}


def limit_of(kernel, numbers):
    limit = DEPTHWISE_LIMIT if kernel.startswith("kDepthwise") else POINTWISE_LIMIT
    return OVER.get((kernel, numbers), OVER.get((kernel, numbers[0]), limit))


def pointwise(side, inputs, outputs):
    return (side, side, inputs, side, side, outputs, 1, 1, 1, 1, 0, 0)


def depthwise(side, channels, size, stride=1):
    output = -(-side // stride)
    pad = (size - 1) // 2
    return (side, side, channels, output, output, channels, size, size, stride, stride, pad, pad)


def macs(shape, num_channels):
    """Products of a gradient and an input (or weight) that is not padding; all channels of a depthwise one by itself."""
    ih, iw, _, oh, ow, _, kh, kw, sh, sw, pt, pl = shape
    rows = [
        np.sum(((y := np.arange(o)[:, None] * s - p + np.arange(k)) >= 0) & (y < i))
        for o, s, p, k, i in ((oh, sh, pt, kh, ih), (ow, sw, pl, kw, iw))
    ]
    return int(rows[0] * rows[1]) * num_channels


def num_planes(kernel, shape):
    """Channels at a time: one, except for the 1x1 convolution at the beginning of a bottleneck."""
    return planes_at_once((*shape[3:5], shape[5])) if kernel.endswith("Planes") else 1


def cases():
    """(kernel, numbers of its shape as above) -> (shape, channels, factor of `macs`)."""
    found = {}
    for numbers in dict.fromkeys(itertools.chain(*POINTWISE.values())):
        _, inputs, outputs = numbers
        shape = pointwise(*numbers)
        found[("kPointwiseInput", *numbers)] = shape, outputs, inputs
        found[("kPointwiseKernel", *numbers)] = shape, outputs // 2, inputs
        found[("kPointwisePlane", *numbers)] = shape, inputs, outputs
        found[("kPointwiseInputPlanes", *numbers)] = shape, outputs, inputs
        found[("kPointwiseKernelPlanes", *numbers)] = shape, outputs // 4, inputs
    for numbers, stride in [(n, 1) for n in DEPTHWISE] + [(n, 2) for n in STRIDED]:
        shape, channels = depthwise(*numbers, stride), numbers[1]
        for kernel in ("kDepthwiseInput", "kDepthwisePlane"):
            found[(kernel, *numbers)] = shape, channels, 1
        for kernel in ("kDepthwiseKernel", "kDepthwisePlaneKernel"):
            found[(kernel, *numbers)] = shape, channels // 2, 1
    return found


CASES = cases()


@pytest.fixture(scope="module")
def per_mac(tmp_path_factory):
    """Instructions a MAC of each case, from one run."""
    folder = tmp_path_factory.mktemp("speed")
    sources = [
        SOURCES / "tinytrain" / "kernels" / f"{name}.cpp" for name in ("convolution", "depthwise", "pointwise", "squares")
    ]
    rows = ", ".join(
        f"{{{kernel}, {{{', '.join(map(str, shape))}}}, {channels}, {num_planes(kernel, shape)}}}"
        for (kernel, *_), (shape, channels, _) in CASES.items()
    )
    (folder / "cases.h").write_text(f"#define CASES {rows}\n#define LARGEST 100000\n")
    flags = [f"-I{SOURCES}", "-std=gnu++14", "-include", folder / "cases.h"]
    objects = compile_sources(sources, folder, flags=[f"-I{SOURCES}", "-std=gnu++14"])
    program = build_program([SOURCE, *objects], folder, board=BOARD, flags=flags)
    done = subprocess.run([*COMMAND, "-kernel", program], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    counts = [count for (count,) in struct.iter_unpack("<Q", done.stdout)]
    return {
        case: count / (factor * macs(shape, channels))
        for (case, (shape, channels, factor)), count in zip(CASES.items(), counts, strict=True)
    }


@pytest.mark.parametrize("kernel", dict.fromkeys(case[0] for case in CASES))
def test_instructions_per_mac(kernel, per_mac, capsys):
    figures = {case: figure for case, figure in per_mac.items() if case[0] == kernel}
    with capsys.disabled():
        print(f"\n{kernel[1:]}:", *(f"{numbers} {figure:.2f}," for (_, *numbers), figure in figures.items()), end="")
    over = {case: figure for case, figure in figures.items() if figure > limit_of(kernel, case[1:])}
    assert not over
