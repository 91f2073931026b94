"""Placement of tensors as TensorFlow Lite Micro's planner does it: by hand, and against the interpreter itself."""

import keras
import pytest
from models import images

from keras_tinytrain.choose.arena import placed_bytes
from keras_tinytrain.export.tflite.arena import smallest_arena
from keras_tinytrain.export.tflite.convert import convert_int8


@pytest.mark.parametrize("tensors, num_bytes", [
    ([], 0),
    ([(4, 0, 1), (4, 1, 2), (4, 2, 3)], 8),  # the third lies where the first was
    ([(2, 0, 0), (3, 1, 1)], 3),
    ([(4, 0, 3), (2, 0, 1), (3, 1, 2), (1, 2, 3)], 9),  # the gap below the second tensor goes to the last
    ([(8, 0, 0), (16, 0, 1), (12, 1, 2), (12, 2, 3), (16, 3, 3)], 40),  # 28 are alive at once
])  # fmt: skip
def test_by_hand(tensors, num_bytes):
    assert placed_bytes(tensors) == num_bytes


def chain(channels):
    """1x1 convolutions with so many channels, one after the other, at 16x16."""
    x = inputs = keras.Input((16, 16, channels[0]))
    for count in channels[1:]:
        x = keras.layers.Conv2D(count, 1, activation="relu")(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("channels", [(8, 16, 12, 12, 16), (16, 12, 12, 16, 8), (24, 8, 16, 16, 3)], ids=str)
def test_the_interpreter_places_likewise(channels):
    """Whatever the sizes, the arena is the tensors as placed and the same bookkeeping for the same operators."""

    def bookkeeping(counts):
        tensors = [(256 * count, max(index - 1, 0), min(index, len(counts) - 2)) for index, count in enumerate(counts)]
        model = chain(counts)
        return smallest_arena(convert_int8(model, images(model, 4))) - placed_bytes(tensors)

    flat = (16,) * len(channels)
    assert bookkeeping(channels) - bookkeeping(flat) == pytest.approx(8 * (sum(channels) - sum(flat)), abs=128)
