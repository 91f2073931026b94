"""cost: MACs and memory in the paper's accounting, on a small net by hand and on the paper's networks to the digit."""

import keras
import pytest
from keras import layers
from models import tiny_net

from keras_tinytrain.backbones import MCUNet, MobileNetV2, ProxylessNASNet
from keras_tinytrain.choose import paper_cost
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import LayerPlan, Plan

MIB = 2**20


@pytest.fixture(scope="module")
def table():
    return layer_table(tiny_net())


@pytest.fixture(scope="module")
def tables():
    """The paper's networks, with the mix layer that its accounting counts."""
    return {
        "mcunet": layer_table(MCUNet(weights=None)),
        "mobilenet_v2": layer_table(MobileNetV2(weights=None, mix=True)),
        "proxylessnas": layer_table(ProxylessNASNet(weights=None, mix=True)),
    }


def test_choice_of_a_plan():
    plan = Plan((LayerPlan("a", (0, 3)), LayerPlan("b", (1,))))
    assert paper_cost.num_channels(plan) == {"a": 2, "b": 1}


def test_trained_weights(table):
    assert paper_cost.num_trained_weights(table, {"b1_project": 3, "b1_depthwise": 2, "logits": 5}) == 3 * 16 + 2 * 9 + 60


def test_backward_macs_are_weight_gradients_and_input_gradients_behind_the_earliest(table):
    macs = {row.name: row.macs for row in table}
    after = ["b2_expand", "b2_depthwise", "b2_project", "b3_conv", "logits"]
    expected = macs["b1_project"] // 2 + sum(macs[name] for name in after)
    assert paper_cost.backward_macs(table, {"b1_project": 4}) == expected
    assert paper_cost.backward_macs(table, {"b1_project": 4, "logits": 5}) == expected + macs["logits"]
    assert paper_cost.backward_macs(table, {"logits": 5}) == macs["logits"]
    assert paper_cost.backward_macs(table, {}) == 0


def test_layers_beside_the_earliest_trained_one_are_not_behind_it():
    image = keras.Input((4, 4, 3))
    branches = [layers.Conv2D(3, 1, name=name)(image) for name in ("left", "right")]
    table = layer_table(keras.Model(image, layers.Conv2D(2, 1, name="last")(layers.Add()(branches))))
    assert paper_cost.backward_macs(table, {"left": 3}) == table["left"].macs + table["last"].macs


def test_full_choice_trains_everything(table):
    choice = paper_cost.full_choice(table)
    assert choice == {row.name: row.num_channels for row in table.weighted}
    assert paper_cost.num_trained_weights(table, choice) == sum(row.num_weights for row in table)
    assert paper_cost.full_backward_macs(table) == 2 * paper_cost.forward_macs(table)


def test_peak_activation_works_in_place_in_depthwise_layers(table):
    assert paper_cost.peak_activation(table) == 6 * 6 * 8 + 6 * 6 * 16  # b1_expand; the stem's is 12*12*3 + 6*6*8
    depthwise = keras.Sequential([keras.Input((4, 4, 6)), layers.DepthwiseConv2D(3, padding="same")])
    assert paper_cost.peak_activation(layer_table(depthwise)) == 4 * 4 * 7


# (network, kernel weights, forward MACs, convolutions, peak activation)
NETWORKS = [
    ("mcunet", 463_216, 22_453_504, 42, 163_840),
    ("mobilenet_v2", 288_864, 17_449_728, 52, 229_376),
    ("proxylessnas", 357_680, 19_209_728, 61, 131_072),
]


@pytest.mark.parametrize(("name", "num_weights", "macs", "num_layers", "peak"), NETWORKS)
def test_networks(tables, name, num_weights, macs, num_layers, peak):
    table = tables[name]
    assert sum(row.num_weights for row in table) == num_weights
    assert paper_cost.forward_macs(table) == macs
    assert len(table.weighted) == num_layers
    assert paper_cost.peak_activation(table) == peak


@pytest.mark.parametrize(
    ("name", "updated", "mib"), [("mcunet", 17_650, 0.89), ("mobilenet_v2", 12_310, 1.06), ("proxylessnas", 18_380, 0.78)]
)
def test_tinytrain_memory_of_the_paper(tables, name, updated, mib):
    """The updated weights to which the paper's mean memory inverts, some of them in each of two layers."""
    table = tables[name]
    rows = table.candidates(1)[-2:]
    counts = {rows[0].name: 1, rows[1].name: (updated - rows[0].weights_per_channel) // rows[1].weights_per_channel}
    assert round(paper_cost.PaperAccounting().memory_bytes(table, counts) / MIB, 2) == mib


def test_copies_of_trained_weights(table):
    sgd, adam = (paper_cost.PaperAccounting(copies=copies).memory_bytes(table, {"logits": 5}) for copies in (2, 4))
    assert adam - sgd == 2 * 4 * 60
    assert sgd == 2 * 4 * 60 + 4 * paper_cost.peak_activation(table)


def test_padding_takes_no_memory():
    table = layer_table(keras.Sequential([keras.Input((6, 6, 2)), layers.ZeroPadding2D(1), layers.Conv2D(3, 3, name="conv")]))
    assert table["conv"].input_shape == (8, 8, 2)
    assert paper_cost.input_size(table, table["conv"]) == 6 * 6 * 2
