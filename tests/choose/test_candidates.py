"""Which layers are candidates of which network, and the line that says why the others are not."""

import dataclasses

import keras
import pytest
from keras import layers
from models import separable_net, tiny_net

from keras_tinytrain.backbones import GestureNet, MCUNet, MobileNetV2, NanoNet, ProxylessNASNet
from keras_tinytrain.choose import candidates as module
from keras_tinytrain.choose.candidates import candidates, candidates_line, with_candidates
from keras_tinytrain.model.layers import LayerTable, layer_table


def names(table, *args, **options):
    return [row.name for row in candidates(table, *args, **options)]


def conv(filters, name, size=3, **options):
    return layers.Conv2D(filters, size, padding="same", activation="relu", name=name, **options)


def plain(num_convs):
    """A tutorial's network: so many 3x3 convolutions with max pooling, and two dense layers."""
    body = [layer for i in range(num_convs) for layer in (conv(4 * (i + 1), f"c{i}"), layers.MaxPooling2D(2, padding="same"))]
    head = [layers.Flatten(), layers.Dense(8, name="hidden"), layers.Dense(3, name="head")]
    return keras.Sequential([keras.Input((16, 16, 1)), *body, *head])


def residual():
    """As in ResNet: 3x3 convolutions, a 1x1 convolution round one pair."""
    image = keras.Input((8, 8, 3))
    x = conv(4, "stem")(image)
    x = layers.Add()([x, conv(4, "a.2")(conv(4, "a.1")(x))])
    y = conv(8, "b.2")(conv(8, "b.1", strides=2)(x))
    x = layers.Add()([conv(8, "b.short", 1, strides=2)(x), y])
    return keras.Model(image, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x)))


def squeezed():
    """As in SqueezeNet: a narrow 1x1 convolution, then 1x1 and 3x3 beside each other, and a convolution as the head."""
    image = keras.Input((8, 8, 3))
    x = conv(4, "stem")(image)
    for name in ("f1", "f2"):
        narrow = conv(2, f"{name}.squeeze", 1)(x)
        x = layers.Concatenate()([conv(4, f"{name}.one", 1)(narrow), conv(4, f"{name}.three")(narrow)])
    return keras.Model(image, layers.GlobalAveragePooling2D()(conv(3, "head", 1)(x)))


def mlp(num_layers):
    return keras.Sequential([keras.Input((6,)), *(layers.Dense(5, name=f"d{i}") for i in range(num_layers))])


EVERY_ONE = {
    "two convolutions": lambda: plain(2),
    "five convolutions": lambda: plain(5),
    "residual": residual,
    "fire modules": squeezed,
    "dense layers": lambda: mlp(3),
}


@pytest.mark.parametrize("network", EVERY_ONE)
def test_networks_of_ordinary_layers_offer_every_one(network):
    table = layer_table(EVERY_ONE[network]())
    assert names(table) == table.names
    assert (
        candidates_line(with_candidates(table), table.names) == f"candidates: {len(table.names)} of {len(table.names)} layers"
    )


def test_separable_layers_offer_their_pointwise_part():
    table = layer_table(separable_net())
    assert names(table) == ["stem", "s1_pointwise", "s2_pointwise", "s3_pointwise", "s4_pointwise"]
    line = candidates_line(with_candidates(table, 2), names(table, 2))
    assert line == "candidates: 2 of 9 layers; 5 before the last 2 blocks, 2 depthwise"


@pytest.mark.parametrize("build", [GestureNet, MCUNet, MobileNetV2, NanoNet, ProxylessNASNet])
@pytest.mark.parametrize("last_blocks", [6, 99])
def test_networks_of_bottlenecks_offer_what_the_paper_trains(build, last_blocks):
    table = layer_table(build(weights=None))
    assert candidates(table, last_blocks) == candidates(table, last_blocks, kinds="pointwise")


def test_larger_convolutions_after_the_bottlenecks_are_candidates_and_those_before_are_not():
    table = layer_table(tiny_net())
    assert names(table, 2) == ["b2_expand", "b2_project", "b3_conv", "logits"]
    assert names(table, 2, kinds="pointwise") == ["b2_expand", "b2_project", "logits"]
    assert names(table, 2, kinds="all")[-2:] == ["b3_conv", "logits"]
    marked = with_candidates(table)
    assert (marked["stem"].left_out, marked["b1_depthwise"].left_out, marked["b3_conv"].left_out) == (
        "not 1x1",
        "depthwise",
        "",
    )


def test_squeeze_and_excite_belongs_to_its_bottleneck():
    image = keras.Input((8, 8, 3))
    x = conv(8, "stem")(image)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(conv(16, "expand", 1)(x))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
    gate = layers.Conv2D(16, 1, activation="sigmoid", name="excite")(conv(4, "squeeze", 1)(gate))
    x = layers.Add()([x, layers.Conv2D(8, 1, name="project")(layers.Multiply()([y, gate]))])
    table = layer_table(keras.Model(image, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x))))
    assert names(table) == ["expand", "squeeze", "excite", "project", "head"]


def test_named_layers_are_candidates_whatever_their_kind():
    table = layer_table(tiny_net())
    assert candidates(table, layers=["b3_conv"]) == (table["b3_conv"],)
    line = candidates_line(with_candidates(table, layers=["b1_depthwise", "stem"]), ["stem", "b1_depthwise"])
    assert line == "candidates: 2 of 9 layers; 7 not named"


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="kinds expects one of 'auto', 'pointwise', 'all'. Received: 'dense'"):
        candidates(layer_table(tiny_net()), kinds="dense")


def test_names_and_numbers_in_each_others_place_say_where_they_belong():
    table = layer_table(tiny_net())
    with pytest.raises(TypeError, match=r"last_blocks expects a number of blocks. Received: 'b3_conv'. Names .* layers="):
        candidates(table, "b3_conv")
    with pytest.raises(TypeError, match=r"layers expects a list of names. Received: 'b3_conv'. Use layers=\['b3_conv'\]"):
        candidates(table, layers="b3_conv")


@pytest.mark.parametrize("kinds", module.KINDS)
def test_network_without_the_kind_offers_all(kinds):
    depthwise = [layers.DepthwiseConv2D(3, name="a"), layers.DepthwiseConv2D(3, name="b")]
    assert names(layer_table(keras.Sequential([keras.Input((6, 6, 2)), *depthwise])), kinds=kinds) == ["a", "b"]
    two = [layers.Conv2D(3, 3, name="a"), layers.Conv2D(2, 3, name="b")]
    assert names(layer_table(keras.Sequential([keras.Input((6, 6, 1)), *two])), kinds=kinds) == ["a", "b"]


def test_last_blocks_count_dense_layers_where_there_is_nothing_else():
    assert names(layer_table(mlp(8)), 3) == ["d5", "d6", "d7"]
    assert len(names(layer_table(mlp(8)))) == 6
    assert names(layer_table(plain(3)), 1) == ["c2", "hidden", "head"]


def test_line_tells_frozen_layers_and_those_that_nobody_can_train():
    model = keras.Sequential(
        [
            keras.Input((20, 4)),
            layers.LSTM(6, return_sequences=True),
            layers.LSTM(5),
            layers.Dense(7, name="a"),
            layers.Dense(3),
        ]
    )
    table = with_candidates(layer_table(model).frozen(["a"]))
    line = candidates_line(table, names(table))
    assert line == "candidates: 1 of 4 layers; 2 LSTM (not trainable here), 1 frozen by trainable=False"


def test_line_tells_the_commonest_reasons():
    rows = [row for row in layer_table(plain(9)) if row.has_channels]
    told = [dataclasses.replace(row, left_out=reason) for row, reason in zip(rows, "aaabbccddef", strict=True)]
    line = candidates_line(LayerTable("net", tuple(told)), [])
    assert line == "candidates: 0 of 11 layers; 3 a, 2 b, 2 c, 2 d, 2 for other reasons"
