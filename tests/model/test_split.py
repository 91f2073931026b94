"""split_model: the two parts compose to the original, and the cut is the latest one possible."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from models import images, pooled_net, tiny_net

from keras_tinytrain.model.split import latest_cut, split_model

NET = tiny_net()


@pytest.mark.parametrize(
    ("first_layer", "cut_at"),
    [
        ("b1_expand", "stem"),
        ("b1_project", "stem"),  # the residual goes round it
        ("b2_expand", "b1_add"),
        ("b2_depthwise", "b2_pad"),
        ("b3_conv", "b2_project"),
        ("logits", "dropout"),
    ],
)
def test_parts_compose_to_the_model_and_share_its_weights(first_layer, cut_at):
    frozen, trainable = split_model(NET, first_layer)
    x = images(NET, 4)
    np.testing.assert_array_equal(trainable(frozen(x)), NET(x))
    assert frozen.layers[-1].name == cut_at
    assert trainable.get_layer(first_layer) is NET.get_layer(first_layer)
    assert first_layer not in [layer.name for layer in frozen.layers]


def test_first_layer_leaves_no_frozen_part():
    assert split_model(NET, "stem") == (None, NET)


def test_sequential_model_is_split():
    model = pooled_net()
    frozen, trainable = split_model(model, "second")
    x = images(model, 3)
    np.testing.assert_array_equal(trainable(frozen(x)), model(x))
    assert frozen.layers[-1].name == "average"


def test_parallel_branches_from_the_input_leave_no_cut():
    image = keras.Input((4,))
    a, b = layers.Dense(3, name="a")(image), layers.Dense(3, name="b")(image)
    model = keras.Model(image, layers.Dense(2, name="c")(layers.Add(name="add")([a, b])))
    assert split_model(model, "b")[0] is None
    assert split_model(model, "c")[0].layers[-1].name == "add"


def test_unknown_layer_is_named():
    with pytest.raises(ValueError, match="no layer 'nowhere'.*'stem'"):
        split_model(NET, "nowhere")


def test_nested_model_is_named():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3)], name="inner")
    with pytest.raises(ValueError, match="'inner'"):
        split_model(keras.Sequential([keras.Input((4,)), inner, layers.Dense(2, name="last")]), "last")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_latest_cut_equals_removing_each_node_in_turn(data):
    count = data.draw(st.integers(2, 9))
    inputs = [()] + [tuple(data.draw(st.sets(st.integers(0, node - 1), min_size=1, max_size=3))) for node in range(1, count)]
    first = data.draw(st.integers(1, count - 1))

    def reachable(start, removed):
        reached = {start}
        for node in range(count):
            if node != removed and reached.intersection(inputs[node]):
                reached.add(node)
        return reached

    after = reachable(first, None)
    cuts = [n for n in range(count) if n not in after and (n == 0 or not after & reachable(0, n))]
    assert latest_cut(inputs, first) == max(cuts)
