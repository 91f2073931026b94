"""SparseUpdate's fifteen schemes: the authors' own figures, to the digit."""

import pytest

from keras_tinytrain.backbones import MCUNet, MobileNetV2, ProxylessNASNet
from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.schemes import SCHEMES, find_scheme, scheme_bytes, scheme_macs, scheme_plan, scheme_weights
from keras_tinytrain.model.layers import layer_table

# (network, scheme, weights, KB, M MACs of weight gradients, of input gradients)
PUBLISHED = [
    ("mcunet", "49kb", 12_096, 49.8, 0.774, 9.152),
    ("mcunet", "74kb", 29_440, 74.8, 1.884, 9.408),
    ("mcunet", "99kb", 52_480, 99.8, 2.474, 9.818),
    ("mcunet", "124kb", 75_328, 125.0, 2.609, 10.729),
    ("mcunet", "148kb", 98_560, 148.4, 3.211, 10.227),
    ("mobilenet_v2", "49kb", 22_410, 49.8, 0.948, 3.742),
    ("mobilenet_v2", "73kb", 39_072, 73.9, 1.243, 4.934),
    ("mobilenet_v2", "99kb", 55_920, 99.4, 2.111, 5.764),
    ("mobilenet_v2", "123kb", 72_384, 123.6, 2.375, 6.814),
    ("mobilenet_v2", "138kb", 81_792, 138.2, 2.525, 7.410),
    ("proxylessnas", "49kb", 20_736, 49.7, 0.811, 5.096),
    ("proxylessnas", "74kb", 36_288, 74.9, 1.290, 6.586),
    ("proxylessnas", "98kb", 62_976, 98.5, 1.671, 5.840),
    ("proxylessnas", "120kb", 76_800, 120.2, 1.966, 7.033),
    ("proxylessnas", "148kb", 89_088, 148.2, 2.163, 9.641),
]


@pytest.fixture(scope="module")
def tables():
    """The public networks, without mix layer."""
    networks = (build(weights=None) for build in (MCUNet, MobileNetV2, ProxylessNASNet))
    return {network.name: layer_table(network) for network in networks}


@pytest.mark.parametrize(("network", "name", "weights", "kilobytes", "weight_macs", "input_macs"), PUBLISHED)
def test_schemes_have_the_figures_of_their_authors(tables, network, name, weights, kilobytes, weight_macs, input_macs):
    table = tables[network]
    scheme = find_scheme(table, name)
    assert scheme_weights(table, scheme) == weights
    assert round(scheme_bytes(table, scheme) / 1024, 1) == kilobytes
    assert tuple(round(macs / 1e6, 3) for macs in scheme_macs(table, scheme)) == (weight_macs, input_macs)


@pytest.mark.parametrize(("network", "name"), [row[:2] for row in PUBLISHED])
def test_plan_of_a_scheme_trains_as_many_weights(tables, network, name):
    table = tables[network]
    plan = scheme_plan(table, name)
    choice, scheme = paper_cost.num_channels(plan), find_scheme(table, name)
    assert paper_cost.num_trained_weights(table, choice) == scheme_weights(table, scheme)
    weight_macs = paper_cost.backward_macs(table, choice) - paper_cost.backward_macs(table, dict.fromkeys(choice, 0))
    assert weight_macs == scheme_macs(table, scheme)[0]
    assert plan.strategy == f"sparse_update {name}"


def test_all_fifteen_schemes_are_here():
    assert {(network, name) for network, schemes in SCHEMES.items() for name in schemes} == {row[:2] for row in PUBLISHED}


def test_mix_layer_changes_no_scheme(tables):
    mixed = layer_table(MobileNetV2(weights=None, mix=True))
    for name, scheme in SCHEMES["mobilenet_v2"].items():
        assert scheme_bytes(mixed, scheme) == scheme_bytes(tables["mobilenet_v2"], scheme)
        assert scheme_plan(mixed, name) == scheme_plan(tables["mobilenet_v2"], name)


def test_unknown_scheme_names_the_known_ones(tables):
    with pytest.raises(ValueError, match=r"'mcunet' has schemes \['49kb'.*Received: '50kb'"):
        find_scheme(tables["mcunet"], "50kb")
    renamed = type(tables["mcunet"])("own", tables["mcunet"].rows)
    with pytest.raises(ValueError, match="schemes for .*'mcunet'.* Received a model called 'own'"):
        find_scheme(renamed, "49kb")
