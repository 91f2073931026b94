"""The sentence on what an emulated board learned."""

from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from keras_tinytrain.choose.forward_work import Work
from keras_tinytrain.cli.emulated_tables import _learned, function_table


@pytest.mark.parametrize(
    ("losses", "solved", "text"),
    [
        ([0.9, 0.4], False, "Loss 0.900 to 0.400 in 2 iterations."),
        ([0.243, 1.0, 2.976], False, "Loss 0.243 to 2.976 in 3 iterations. It rose: export with a lower --learning-rate."),
        ([], True, "The closed-form head was solved, and nothing was trained. Of its samples, 75.0 % are right without them."),
        ([], False, "Nothing was trained: the samples made the head alone."),
    ],
)
def test_what_was_learned(losses, solved, text):
    emulated = SimpleNamespace(
        losses=losses, leave_one_out=np.zeros((4, 2)) if solved else None, leave_one_out_percent=lambda taught: 75.0
    )
    assert _learned(emulated, None) == text


def test_long_names_of_functions_leave_the_numbers_their_room():
    work = Work(instructions=1_234_567, cycles=2_469_134)
    console = Console(width=80)
    with console.capture() as shown:
        console.print(function_table(SimpleNamespace(functions={"tinytrain::Convolution<" + "x" * 90 + ">": work})))
    assert "1,234,567" in shown.get() and "2.00" in shown.get() and max(map(len, shown.get().splitlines())) <= 80
