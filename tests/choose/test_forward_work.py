"""Instructions of forward passes: as measured on the emulated Cortex-M4F over a real TensorFlow Lite Micro."""

import pytest

from keras_tinytrain.backbones import GestureNet, NanoNet
from keras_tinytrain.backbones.names import find_backbone
from keras_tinytrain.choose.arena import MicroGraph
from keras_tinytrain.choose.forward_work import Work, forward_work, graph_macs, operator_work
from keras_tinytrain.choose.kernels import Operator
from keras_tinytrain.choose.table_graph import table_graph
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.model.split import latest_cut

# TensorFlow Lite Micro of August 2026 with CMSIS-NN at -O2, millions of instructions of a pass as a task counts them: frozen and
# trainable part. Measured at version 49ecff3, before this estimate was made.
MEASURED = {
    "mcunet": (128, "b10.pw1", 80.5, 17.27),
    "proxylessnas": (128, "b14.pw1", 84.4, 17.92),
    "mobilenet_v2": (96, "b11.pw1", 39.9, 7.96),
    "nanonet": (None, "b6.pw1", 8.70, 2.86),
    "gesturenet": (None, "b5.pw2", 2.94, 1.61),
}
OWN = {"nanonet": NanoNet, "gesturenet": GestureNet}


@pytest.mark.parametrize("network", MEASURED)
def test_passes_are_within_a_tenth_of_those_measured(network):
    side, first_trained, *measured = MEASURED[network]
    model = OWN[network]() if network in OWN else find_backbone(network)((side, side, 3), weights=None)
    table = layer_table(model)
    cut = latest_cut([row.inputs for row in table], table.index(first_trained))
    parts = table_graph(table, 0, cut + 1), table_graph(table, cut, len(table), frozenset({first_trained}))
    for part, millions in zip(parts, measured):
        assert forward_work(part, "cmsis-nn").instructions == pytest.approx(1e6 * millions, rel=0.1)


def test_dense_along_an_axis_multiplies_by_that_axis_alone():
    vector = Operator("FULLY_CONNECTED", (16,), (64,), (1, 1), (1, 1), (0, 0))
    of_a_map = vector._replace(input=(8, 8, 16), output=(8, 8, 64))
    graphs = [MicroGraph((), ((0, operator),), 0) for operator in (vector, of_a_map)]
    assert list(map(graph_macs, graphs)) == [16 * 64, 8 * 8 * 16 * 64]
    once, often = (operator_work(operator, "cmsis-nn").instructions for operator in (vector, of_a_map))
    assert often == pytest.approx(64 * once, rel=0.05)


def test_larger_operators_take_more():
    small = Operator("CONV_2D", (8, 8, 16), (8, 8, 16), (3, 3), (1, 1), (1, 1))
    for change in ({"input": (8, 8, 32)}, {"output": (8, 8, 32)}, {"window": (5, 5), "pads": (2, 2)}):
        assert operator_work(small._replace(**change), "cmsis-nn").cycles > operator_work(small, "cmsis-nn").cycles


@pytest.mark.parametrize("kind", ["ADD", "MEAN", "SOFTMAX", "AN_OPERATOR_OF_TOMORROW"])
def test_every_operator_has_a_price_in_every_library(kind):
    operator = Operator(kind, (8, 8, 16), (8, 8, 16))
    works = [operator_work(operator, kernels) for kernels in ("cmsis-nn", "arduino", "reference", "esp-nn")]
    assert all(work.cycles > work.instructions > 1000 for work in works)


def test_products_with_the_padding_are_cheaper():
    inside = Operator("DEPTHWISE_CONV_2D", (12, 12, 16), (8, 8, 16), (5, 5))
    padded = Operator("DEPTHWISE_CONV_2D", (8, 8, 16), (8, 8, 16), (5, 5), pads=(2, 2))
    assert operator_work(padded, "cmsis-nn").instructions < operator_work(inside, "cmsis-nn").instructions


def test_work_adds_up():
    assert Work(10, 15, 2) * 3 + Work(1, 1) == Work(31, 46, 6)
