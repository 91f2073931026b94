"""What a process holds after many rounds is what it held after twenty."""

import pathlib
import subprocess
import sys

import pytest
from trust.trials import rounds


@pytest.mark.parametrize(
    ("name", "what", "first", "last", "megabytes"),
    [
        ("training", "rounds of `HostRuntime.train`, 20 iterations of 4 samples", 20, rounds(100), 4),
        ("hosts", "`HostRuntime`s, one after the other", 20, 200, 20),
        ("passes", "forward passes of TensorFlow Lite Micro", 1000, 10_000, 4),
        ("adapting", "rounds of `adapt`, 2 iterations of 6 samples", 20, rounds(40), 20),
    ],
)
def test_rounds_leave_nothing_behind(name, what, first, last, megabytes, record_property):
    script = pathlib.Path(__file__).with_name("long_runs.py")
    run = subprocess.run(
        [sys.executable, script, name, str(first), str(last - first)], capture_output=True, text=True, check=True
    )
    grown = float(run.stdout)
    record_property("grew", f"{what}|{first}|{last}|{grown:.1f}")
    assert grown < megabytes
