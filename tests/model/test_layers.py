"""layer_table: kinds, shapes, MACs, blocks, and why a layer cannot be trained."""

import keras
import pytest
from keras import layers
from models import pooled_net, tiny_net

from keras_tinytrain.backbones import MCUNet, MobileNetV2, ProxylessNASNet
from keras_tinytrain.model.layers import layer_table


@pytest.fixture(scope="module")
def table():
    return layer_table(tiny_net())


def bottleneck(x, name, *, expand, filters, strides=1):
    y = layers.Conv2D(expand, 1, activation="relu6", name=f"{name}.1")(x)
    y = layers.DepthwiseConv2D(3, padding="same", strides=strides, activation="relu6", name=f"{name}.2")(y)
    y = layers.Conv2D(filters, 1, name=f"{name}.3")(y)
    return layers.Add()([x, y]) if x.shape[1:] == y.shape[1:] else y


def block_names(table):
    """Names of the rows with channels, block by block."""
    blocks = {}
    for row in table.weighted:
        blocks.setdefault(row.block, []).append(row.name)
    return list(blocks.values())


def test_rows_have_kinds_and_shapes(table):
    assert (table["stem"].kind, table["b1_depthwise"].kind, table["logits"].kind) == ("conv", "depthwise", "dense")
    assert (table["b1_add"].kind, table["b2_pad"].kind, table["pool"].kind) == ("add", "pad", "pool")
    assert table["stem"].input_shape == (12, 12, 3)
    assert table["stem"].output_shape == (6, 6, 8)
    assert [table[i].name for i in table["b1_add"].inputs] == ["stem", "b1_project"]


def test_macs_and_parameters_by_hand(table):
    assert table["stem"].macs == 6 * 6 * 8 * 3 * 3 * 3
    assert table["b1_expand"].macs == 6 * 6 * 8 * 16
    assert table["b2_depthwise"].macs == 3 * 3 * 16 * 9
    assert table["logits"].macs == 12 * 5
    assert table["b1_add"].macs == 0
    assert (table["b1_depthwise"].num_weights, table["b1_depthwise"].weights_per_channel) == (144, 9)
    assert (table["b1_project"].num_channels, table["b1_project"].weights_per_channel) == (8, 16)
    assert table["stem"].has_bias


def test_dense_on_a_sequence_counts_every_position():
    table = layer_table(keras.Sequential([keras.Input((7, 4)), layers.Dense(3, name="dense")]))
    assert table["dense"].macs == 7 * 4 * 3


def test_grouped_convolution_counts_its_reduced_depth():
    table = layer_table(keras.Sequential([keras.Input((5, 5, 4)), layers.Conv2D(6, 3, groups=2, name="grouped")]))
    assert table["grouped"].macs == 3 * 3 * 6 * (4 // 2) * 9


REASONS = {
    "groups=2": lambda: layers.Conv2D(6, 3, groups=2, name="odd"),
    "depth_multiplier=2": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, name="odd"),
    r"dilation_rate=\(2, 2\)": lambda: layers.Conv2D(6, 3, dilation_rate=2, name="odd"),
    "Conv2DTranspose; channels are trained in": lambda: layers.Conv2DTranspose(6, 3, name="odd"),
    "SeparableConv2D; channels are trained in": lambda: layers.SeparableConv2D(6, 3, name="odd"),
}


class OwnConv2D(layers.Conv2D):
    """A layer that is not known by its class."""


@pytest.mark.parametrize(
    "layer, shape, macs",
    [
        (layers.Conv1D(8, 3, padding="same"), (10, 6), 10 * 3 * 6 * 8),
        (layers.Conv1D(8, 3, strides=2), (9, 6), 4 * 3 * 6 * 8),
        (layers.SeparableConv2D(5, 3), (6, 6, 4), 16 * (9 * 4 + 4 * 5)),
        (layers.Conv2DTranspose(5, 3, strides=2), (6, 6, 4), 36 * 9 * 4 * 5),
        (OwnConv2D(5, 3), (6, 6, 4), 16 * 9 * 4 * 5),
        (layers.LSTM(5), (7, 3), 7 * 4 * 5 * (3 + 5)),
        (layers.Bidirectional(layers.GRU(5)), (7, 3), 2 * 7 * 3 * 5 * (3 + 5)),
        (layers.SimpleRNN(5, unroll=True), (7, 3), 7 * 5 * (3 + 5)),
        (layers.TimeDistributed(layers.Dense(5)), (7, 3), 7 * 3 * 5),
        (layers.EinsumDense("abc,bd->adc", (4, 3)), (7, 3), 7 * 3 * 4),
        (layers.LayerNormalization(), (7, 3), 0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_macs_of_layers_that_are_not_trained(layer, shape, macs):
    assert layer_table(keras.Sequential([keras.Input(shape), layer, layers.Flatten()]))[layer.name].macs == macs


def test_macs_of_attention_count_its_products_of_activations():
    x = image = keras.Input((8, 6))
    x = layers.MultiHeadAttention(num_heads=2, key_dim=4, name="attention")(x, x)
    row = layer_table(keras.Model(image, layers.Dense(2)(x)))["attention"]
    assert row.macs == 4 * 8 * 6 * 8 + 2 * 2 * 8 * 8 * 4  # query, key, value, output; scores and their sums


@pytest.mark.parametrize("reason", REASONS)
def test_layers_that_cannot_be_trained_say_why(reason):
    table = layer_table(keras.Sequential([keras.Input((8, 8, 4)), REASONS[reason](), layers.Conv2D(3, 1, name="last")]))
    assert not table["odd"].trainable
    assert [row.name for row in table.candidates(6)] == ["last"]
    with pytest.raises(ValueError, match=f"'odd' .*{reason}"):
        table.candidates(layers=["odd"])


def test_channels_first_says_why():
    odd = layers.Conv2D(3, 1, data_format="channels_first", name="odd")
    assert "channels_first" in layer_table(keras.Sequential([keras.Input((4, 6, 6)), odd]))["odd"].reason


def test_model_without_channels_is_named():
    table = layer_table(keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten()], name="net"))
    with pytest.raises(ValueError, match="'net' has no trainable"):
        table.candidates(6)


def test_unknown_shapes_are_named():
    with pytest.raises(ValueError, match="has a tensor of unknown shape.*keras.Input"):
        layer_table(keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3, name="conv")]))


def test_unknown_layer_is_named(table):
    with pytest.raises(ValueError, match="no layer 'nowhere'.*'stem'"):
        table["nowhere"]


def test_layer_without_channels_is_no_candidate(table):
    with pytest.raises(ValueError, match=r"'b1_add' \(it has no channels\)"):
        table.candidates(layers=["stem", "b1_add"])


def test_downstream_is_what_depends_on_a_layer(table):
    after = dict(zip([row.name for row in table], table.downstream(["b1_project"]), strict=True))
    assert not after["b1_depthwise"] and not after["b1_project"]
    assert after["b1_add"] and after["b2_expand"] and after["logits"]


def test_blocks_of_bottlenecks():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu6", name="stem")(image)
    x = layers.DepthwiseConv2D(3, padding="same", name="first.2")(x)
    x = layers.Conv2D(4, 1, name="first.3")(x)
    x = bottleneck(x, "a", expand=12, filters=4)
    x = bottleneck(x, "b", expand=12, filters=6, strides=2)
    x = bottleneck(x, "c", expand=18, filters=6)
    x = layers.Conv2D(20, 1, activation="relu6", name="mix")(x)
    x = layers.Dense(5, name="top")(layers.GlobalAveragePooling2D()(x))
    table = layer_table(keras.Model(image, x))
    body = [["a.1", "a.2", "a.3"], ["b.1", "b.2", "b.3"], ["c.1", "c.2", "c.3"]]
    assert block_names(table) == [["stem"], ["first.2", "first.3"], *body, ["mix"], ["top"]]
    assert [row.name for row in table.candidates(1)] == ["c.1", "c.2", "c.3", "mix", "top"]
    assert table.candidates(99) == table.weighted


def test_blocks_of_a_plain_network():
    assert block_names(layer_table(pooled_net())) == [["first"], ["second"], ["hidden"], ["embedding"]]


@pytest.mark.parametrize(("build", "num_blocks"), [(MCUNet, 14), (MobileNetV2, 17), (ProxylessNASNet, 20)])
def test_blocks_of_the_backbones(build, num_blocks):
    table = layer_table(build(weights=None))
    expected = {name.split(".")[0] for name in table.names}
    assert len(block_names(table)) == len(expected) == num_blocks + 1  # and the stem
    assert all(len({name.split(".")[0] for name in names}) == 1 for names in block_names(table))
    assert table.candidates(6)[0].name == f"b{num_blocks - 6}.pw1"


@pytest.mark.parametrize("build", [MobileNetV2, ProxylessNASNet])
def test_mix_layer_counts_to_the_last_block(build):
    plain, mixed = (layer_table(build(weights=None, mix=mix)).candidates(6) for mix in (False, True))
    assert [row.name for row in mixed] == [row.name for row in plain] + ["mix"]


def test_a_layer_that_reads_one_tensor_twice_is_counted():
    image = keras.Input((4, 6))
    x = keras.layers.MultiHeadAttention(2, 3, name="attention")(image, image)
    table = layer_table(keras.Model(image, keras.layers.Multiply(name="square")([x, x])))
    assert table["attention"].macs > 0 and table["square"].macs == 0
