"""Absorbing explicit padding leaves every output bit as it was, saves the copy, and leaves trained kernels alone."""

import keras
import numpy as np
import pytest
from keras import layers
from models import images

from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite._pads import absorb_pads
from keras_tinytrain.export.tflite.arena import smallest_arena
from keras_tinytrain.export.tflite.convert import convert_int8
from keras_tinytrain.run.micro_model import MicroModel


def padded_net(kernel_size, *, size=12, kind=layers.DepthwiseConv2D, pad=None):
    keras.utils.set_random_seed(0)
    pad = kernel_size // 2 if pad is None else pad
    image = keras.Input((size, size, 3))
    x = layers.ZeroPadding2D(pad, name="pad")(image)
    filters = () if kind is layers.DepthwiseConv2D else (4,)
    x = kind(*filters, kernel_size, strides=2, name="strided", bias_initializer="random_normal")(x)
    return keras.Model(image, layers.Conv2D(4, 1, name="after")(x))


def operators(model_bytes):
    model = fb.read_model(model_bytes)
    return [fb.operator_name(model, operator) for operator in model.subgraphs[0].operators]


def absorbed(model_bytes, keep=()):
    """The model without the PAD operators that it does not need."""
    model = fb.read_model(model_bytes)
    absorb_pads(model, keep=set(keep))
    graph = model.subgraphs[0]
    return fb.part_of(model, list(range(len(graph.operators))), list(map(int, graph.inputs)), list(map(int, graph.outputs)))


@pytest.mark.parametrize("kind", [layers.DepthwiseConv2D, layers.Conv2D])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_outputs_stay_the_same_bit_for_bit(kind, kernel_size):
    model = padded_net(kernel_size, kind=kind)
    before = convert_int8(model, images(model, 6))
    after = absorbed(before)
    assert operators(before)[0] == "PAD"
    assert operators(after) == operators(before)[1:]
    assert smallest_arena(after) < smallest_arena(before)
    old, new = (MicroModel(each, smallest_arena(each)) for each in (before, after))
    for x in np.random.default_rng(0).integers(-128, 128, (10, 1, 12, 12, 3), dtype=np.int8):
        np.testing.assert_array_equal(new(x)[0], old(x)[0])


def test_trained_kernels_and_other_paddings_are_left_alone():
    model = padded_net(3)
    whole = convert_int8(model, images(model, 2))
    assert operators(absorbed(whole, keep=[1])) == operators(whole)
    for odd in (padded_net(3, size=11), padded_net(3, pad=2), padded_net(3, pad=((2, 0), (0, 1)))):
        whole = convert_int8(odd, images(odd, 2))
        assert operators(absorbed(whole)) == operators(whole)


def test_what_else_reads_the_padding_keeps_it():
    image = keras.Input((8, 8, 2))
    x = layers.ZeroPadding2D(1)(image)
    y = layers.Conv2D(3, 3, strides=2)(x)
    z = layers.MaxPooling2D(3, strides=2)(x)
    model = keras.Model(image, layers.Concatenate()([y, z]))
    whole = convert_int8(model, images(model, 2))
    assert "PAD" in operators(absorbed(whole))
