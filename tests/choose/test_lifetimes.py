"""A layer table as the device runs it: which rows share memory, and which paddings are computed."""

import keras
import pytest
from keras import layers
from models import tiny_net

from keras_tinytrain.choose.lifetimes import homes, padded_copies, table_steps
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.model.layers import layer_table


def table_of(build):
    image = keras.Input((8, 8, 4), name="image")
    return layer_table(keras.Model(image, build(layers.Conv2D(4, 3, padding="same", name="conv")(image))))


def rows_with_memory(table):
    """Names of the rows that begin a tensor."""
    return [table[home].name for home in sorted(set(homes(table)))]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda x: layers.ReLU()(layers.Dropout(0.1)(x)), []),  # fused; Dropout is nothing on the device
        (lambda x: layers.Add(name="add")([x, layers.ReLU(name="relu")(x)]), ["relu", "add"]),  # its input is read again
        (lambda x: layers.ReLU(name="relu")(layers.GlobalAveragePooling2D(name="mean")(x)), ["mean", "relu"]),
        (lambda x: layers.ReLU()(layers.MaxPooling2D(name="max")(x)), ["max"]),
        (lambda x: layers.Flatten(name="flat")(x), ["flat"]),
        (lambda x: layers.Conv2D(2, 3, name="next")(layers.ZeroPadding2D(1)(x)), ["next"]),
        (lambda x: layers.Conv2D(2, 3, name="next")(layers.ZeroPadding2D(3, name="pad")(x)), ["pad", "next"]),
        (lambda x: layers.AveragePooling2D(2, name="mean")(layers.ZeroPadding2D(1, name="pad")(x)), ["pad", "mean"]),
    ],
)
def test_rows_share_memory_where_the_device_has_no_operator_for_them(build, expected):
    assert rows_with_memory(table_of(build)) == ["image", "conv", *expected]


def test_steps_have_the_kinds_of_their_rows():
    table = table_of(lambda x: layers.MaxPooling2D(name="max")(layers.ReLU(name="relu")(x)))
    _, conv, pool = table_steps(table, ["conv"])
    assert (conv.trained, conv.reads_output, conv.reads_input, conv.inputs, conv.output) == (True, True, False, (0,), 1)
    assert (pool.trained, pool.reads_output, pool.reads_input, pool.inputs, pool.output) == (False, False, True, (1,), 3)


def test_padding_is_computed_where_its_convolution_is_trained():
    table = layer_table(fold_batch_norm(tiny_net()))
    pad = table.index("b2_pad")
    assert padded_copies(table, frozenset({"b2_project"})) == {}
    assert padded_copies(table, frozenset({"b2_depthwise"})) == {pad: (pad, table.index("b2_depthwise"))}


def test_padding_is_computed_where_no_same_padding_equals_it():
    table = table_of(lambda x: layers.Conv2D(2, 5, name="next")(layers.ZeroPadding2D(1, name="pad")(x)))
    assert list(padded_copies(table, frozenset())) == [table.index("pad")]
