"""TinyTL's lite residual modules and AdapterDrop: same answers before training, and what is trained."""

import numpy as np
import pytest
from models import tiny_net

from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.benchmark.tiny_tl import lite_residual_network, tiny_tl_plan
from keras_tinytrain.choose import paper_cost
from keras_tinytrain.model.layers import layer_table


@pytest.fixture(scope="module")
def backbone():
    return NanoNet()


def glyphs():
    return np.random.default_rng(0).random((3, 32, 32, 1)).astype(np.float32)


def test_starts_as_the_backbone(backbone):
    network = lite_residual_network(backbone)
    np.testing.assert_array_equal(network(glyphs()), backbone(glyphs()))
    assert network.get_layer("b1.pw1") is not backbone.get_layer("b1.pw1")


def test_module_is_pool_group_convolution_and_upsampling(backbone):
    network = lite_residual_network(backbone)
    *groups, second = map(network.get_layer, ("b2.lite1.0", "b2.lite1.1", "b2.lite2"))
    assert all(group.kernel.shape == (5, 5, 12, 12) for group in groups)  # of 24 channels
    assert np.any(groups[0].kernel != groups[1].kernel) and second.kernel.shape == (1, 1, 24, 32)
    assert groups[0].output.shape[1:3] == (8, 8) and network.get_layer("b2.lite.resize").output.shape[1:] == (8, 8, 32)
    second.kernel.assign(np.ones(second.kernel.shape, np.float32))
    assert np.abs(network(glyphs()) - backbone(glyphs())).max() > 0.01


@pytest.mark.parametrize(("drop", "first"), [(0, 1), (0.25, 3), (0.5, 5), (0.75, 6)])
def test_modules_of_the_first_blocks_are_dropped(backbone, drop, first):
    network = lite_residual_network(backbone, drop=drop)
    plan, table = tiny_tl_plan(network), layer_table(network)
    kernels = [layer.name for layer in plan.layers if layer.kernel]
    assert kernels == [f"b{block}.lite{part}" for block in range(first, 8) for part in ("1.0", "1.1", "2")]
    biases = [layer.name for layer in plan.layers if not layer.kernel]
    assert sorted(biases) == sorted(name for name in layer_table(backbone).names if name[0] == "b" and int(name[1]) >= first)
    choice = paper_cost.num_channels(plan)
    assert paper_cost.num_trained_weights(table, choice) == sum(table[name].num_weights for name in kernels)


def test_fewer_modules_cost_less(backbone):
    networks = [lite_residual_network(backbone, drop=drop) for drop in (0, 0.5)]
    macs = [paper_cost.backward_macs(layer_table(n), paper_cost.num_channels(tiny_tl_plan(n))) for n in networks]
    assert macs[1] < 0.7 * macs[0]


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="TinyTL needs blocks of layers called b0.dw, b1.pw1.* 'tiny_net' has"):
        lite_residual_network(tiny_net())
