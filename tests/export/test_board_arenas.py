"""Arenas that a board needs, promised by rule: as measured on an emulated Cortex-M4 with libraries built from their sources."""

import keras
import numpy as np
import pytest
from models import images

from keras_tinytrain.backbones import GestureNet, MCUNet, MobileNetV2, NanoNet, ProxylessNASNet
from keras_tinytrain.choose.arena import KERNELS, MicroGraph, arena_bytes
from keras_tinytrain.choose.kernels import Operator, cmsis_nn, cmsis_nn_2023, esp_nn, reference
from keras_tinytrain.export.backward.graph import read_trainable
from keras_tinytrain.export.backward.selected import choose_split
from keras_tinytrain.export.code_size import code_bytes
from keras_tinytrain.export.tflite.arena import board_arena, smallest_arena
from keras_tinytrain.export.tflite.convert import convert_int8
from keras_tinytrain.export.tflite.cut import cut_model
from keras_tinytrain.export.tflite.micro_graph import micro_graph
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import LayerPlan, Plan

# The smallest arenas that run, (frozen, trainable), of plans with so many trained channels: with TensorFlow Lite Micro of August
# 2026 over CMSIS-NN of July 2026; and what the library of the Arduino IDE, of December 2023, reports to use.
MEASURED = {
    "digits": (NanoNet, {}, "", {"b6.pw1": 130}, (38_336, 26_784), (39_444, 29_652)),
    "gestures": (GestureNet, {}, "", {"b5.pw2": 6, "b6.pw1": 144}, (16_560, 16_224), (16_532, 16_532)),
    "mcunet": (MCUNet, {}, "mcunet-5fps", {"b10.pw1": 66}, (189_664, 100_656), (190_080, 107_316)),
    "proxylessnas": (
        ProxylessNASNet,
        {},
        "proxyless-w0.3",
        {"b14.pw1": 96, "b15.pw1": 123, "b17.pw1": 1},
        (164_544, 136_592),
        (165_104, 137_452),
    ),
    "mobilenet_v2": (
        MobileNetV2,
        {"input_shape": (96, 96, 3)},
        "mbv2-w0.35",
        {"b11.pw1": 62, "b13.pw1": 192},
        (164_016, 90_112),
        (164_496, 95_320),
    ),
}
SLOW = ("mcunet", "proxylessnas", "mobilenet_v2")


@pytest.mark.parametrize("name", [pytest.param(each, marks=[pytest.mark.slow] * (each in SLOW)) for each in MEASURED])
def test_promise_is_what_was_measured_and_little_more(name, shared_data):
    build, options, weights, choice, current, arduino = MEASURED[name]
    model = build(**options, weights=shared_data / "weights" / f"{weights}.npz") if weights else build()
    parts = exported(fold_batch_norm(model), choice)
    assert tuple(board_arena(part, "cmsis-nn") for part in parts) == current
    for part, need in zip(parts, arduino):
        assert need <= board_arena(part, "arduino") <= 1.05 * need
        assert board_arena(part, "reference") <= board_arena(part, "cmsis-nn") <= board_arena(part, "arduino")


def exported(model, choice):
    """(frozen, trainable) of a model in canonical form, with the trained channels as convolutions of their own."""
    table = layer_table(model)
    plan = Plan(tuple(LayerPlan(name, spread(count, table[name].num_channels)) for name, count in choice.items()))
    frozen, trainable, operators = cut_model(convert_int8(model, images(model, 4)), model, plan)
    return frozen, choose_split(*read_trainable(trainable, operators, plan), model_arena=len, only=True)[0]


def spread(count, num_channels):
    """So many channels, and neither the first nor the last where not all are taken: their order has to be restored."""
    if count == num_channels:
        return tuple(range(count))
    return tuple(int(channel) for channel in np.linspace(1, num_channels - 2, count).round())


def test_no_arena_of_a_board_is_larger_than_on_this_machine_with_reference_kernels():
    """Pointers of 8 bytes take more, a little."""
    for part in exported(fold_batch_norm(GestureNet()), {"b6.pw1": 20}):
        assert 0.85 * smallest_arena(part) <= board_arena(part, "reference") <= smallest_arena(part)


def test_of_an_operator_that_no_table_knows_the_interpreter_is_asked():
    image = keras.Input((8, 8, 4))
    x = keras.layers.Cropping2D(1)(keras.layers.Conv2D(4, 3)(image))
    model = convert_int8(keras.Model(image, x), np.random.default_rng(0).normal(size=(8, 8, 8, 4)))
    graph = micro_graph(model)
    assert not graph.is_known
    assert board_arena(model, "reference") >= smallest_arena(model) > arena_bytes(graph, KERNELS["reference"])


def test_lists_while_planning_decide_the_arena_of_tiny_tensors():
    operators = tuple((moment, Operator("RELU", (1,), (1,))) for moment in range(1, 31))
    tensors = tuple((16, moment - 1, moment) for moment in range(1, 32))
    graph = MicroGraph(tensors, operators, num_tensors=31)
    kept = 132 + 31 * 12 + 30 * 32 + 30 * 32
    assert arena_bytes(graph, KERNELS["reference"]) >= kept + 31 * (24 + 44) + 12 * 12


BACKBONES = ("ADD", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "GATHER", "MEAN")  # the operators of all five networks


@pytest.mark.parametrize(("kernels", "need"), [("cmsis-nn", 148_500), ("reference", 112_892), ("arduino", 114_935)])
def test_code_is_what_was_measured_and_little_more(kernels, need):
    """The need: a firmware linked with that library, or a sketch over Arduino's, less models, tables and C library."""
    assert need <= code_bytes(BACKBONES, kernels, has_core=True) <= 1.06 * need


def test_code_without_a_core_has_a_c_library():
    assert code_bytes(BACKBONES, "arduino", has_core=False) > code_bytes(BACKBONES, "arduino", has_core=True)


def test_an_operator_without_a_figure_takes_code_too():
    new, known, none = (
        code_bytes(operators, "cmsis-nn", has_core=True) for operators in ([*BACKBONES, "NEW_OPERATOR"], BACKBONES, [])
    )
    assert new > known > none


WIDE = Operator("CONV_2D", (9, 9, 16), (9, 9, 8), (3, 3), pads=(1, 1))
POINTWISE = Operator("CONV_2D", (9, 9, 16), (9, 9, 8))
STRIDED = Operator("CONV_2D", (9, 9, 16), (5, 5, 8), strides=(2, 2))
DEPTHWISE = Operator("DEPTHWISE_CONV_2D", (9, 9, 16), (9, 9, 16), (3, 3), pads=(1, 1))
DEEP = Operator("DEPTHWISE_CONV_2D", (9, 9, 16), (9, 9, 16), (7, 7), pads=(3, 3))
MULTIPLIED = Operator("DEPTHWISE_CONV_2D", (9, 9, 16), (9, 9, 32), (5, 5), pads=(2, 2))
POOL = Operator("AVERAGE_POOL_2D", (8, 8, 16), (4, 4, 16), (2, 2), (2, 2))
MEAN = Operator("MEAN", (4, 4, 16), (16,))
ALONG_AN_AXIS = Operator("FULLY_CONNECTED", (9, 16), (9, 8))


@pytest.mark.parametrize(
    ("scratch", "operator", "expected"),
    [
        (reference, WIDE, ()),
        (reference, MEAN, (64, 16, 16)),
        (cmsis_nn, WIDE, (2 * 2 * 144,)),
        (cmsis_nn, WIDE._replace(input=(9, 9, 3)), (2 * 2 * 28,)),  # 27 values, a multiple of four
        (cmsis_nn, POINTWISE, ()),
        (cmsis_nn, STRIDED, ()),
        (cmsis_nn_2023, STRIDED, (2 * 2 * 16,)),
        (cmsis_nn, DEPTHWISE, ()),
        (cmsis_nn_2023, DEPTHWISE, (2 * 144,)),
        (cmsis_nn, DEPTHWISE._replace(window=(4, 4)), (2 * 256,)),
        (cmsis_nn, DEEP, (2 * 49 * 16,)),
        (cmsis_nn, MULTIPLIED, ()),
        (cmsis_nn, POOL, (64,)),
        (cmsis_nn, MEAN, (64, 16, 16)),
        (cmsis_nn, ALONG_AN_AXIS, (64,)),
        # by the C functions of ESP-NN, compiled and called
        (esp_nn, WIDE, (6272,)),
        (esp_nn, POINTWISE, (448,)),
        (esp_nn, STRIDED, (1952,)),
        (esp_nn, DEPTHWISE, (2096,)),
        (esp_nn, DEEP, (4192,)),
        (esp_nn, MULTIPLIED, (32,)),
    ],
)
def test_scratch_follows_the_library(scratch, operator, expected):
    assert scratch(operator) == expected
