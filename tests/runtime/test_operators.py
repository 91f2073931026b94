"""What is declared of an operator: in the header's enum, in C++, for the exporter, and for Keras on the device's grid."""

import pytest

from keras_tinytrain import _runtime
from keras_tinytrain.export.backward.operators import OPERATORS
from keras_tinytrain.run import on_grid
from keras_tinytrain.tflm_runtime.headers import enum
from tests.runtime.net_tables import OPERATORS as NET_OPERATORS

HEADER = enum("tinytrain_tables.h", "Operator")


def test_every_operator_is_declared_in_python_and_cpp():
    assert set(OPERATORS) == set(HEADER)
    assert len(_runtime.operator_rows()) == len(HEADER)


@pytest.mark.parametrize("op", HEADER)
def test_python_and_cpp_declare_an_operator_alike(op):
    row, ours = _runtime.operator_rows()[HEADER[op]], OPERATORS[op]
    assert {name: row[name] for name in ("in_place", "reads_input", "reads_output")} == {
        "in_place": ours.in_place,
        "reads_input": ours.reads_input,
        "reads_output": ours.reads_output,
    }


def test_every_operator_is_known_on_the_grid():
    declared = {name for row in OPERATORS.values() for name in row.readers}
    assert {*on_grid._ON_GRID, *on_grid._AS_IT_IS, on_grid._BEFORE_JOINS} == declared


def test_every_operator_is_in_the_nets_of_these_tests():
    assert set(NET_OPERATORS.values()) == set(HEADER)
