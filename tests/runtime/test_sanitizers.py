"""Kernels, trainer and deltas on random data under the address and undefined behaviour sanitizers, with guarded arenas."""

import subprocess

import pytest

from tests.runtime.net_tables import render_tables
from tests.runtime.paths import ROOT, SOURCES
from tests.runtime.small_net import SPLIT, small_net

HOSTILE = ROOT / "tests" / "runtime" / "hostile"
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
# A float that no integer can hold is an error, too; division by zero is IEEE arithmetic, and not listed.
EXTRA = ["-fsanitize=float-cast-overflow", "-D_GLIBCXX_ASSERTIONS"]


@pytest.mark.parametrize("head, views, by_channel, variant", [
    ("prototypes", (), 3, ""), ("prototypes", ((1, 0, False), (-40, 3, True)), 0, "picking"), ("softmax", (), 5, "split"),
    ("prototypes", ((1, 0, True),), 1, "candidates")])
def test_no_undefined_behaviour(head, views, by_channel, variant, tmp_path):
    candidates = ("kPerWeightAndMac", 10**6) if variant == "candidates" else ()
    net = small_net(head, by_channel=by_channel, picking=variant == "picking", candidates=candidates)
    net.views, net.split = views, SPLIT if variant == "split" else ()
    (tmp_path / "tables.cpp").write_text(render_tables(net))
    program = tmp_path / "program"
    sources = [HOSTILE / "sanitize.cpp", tmp_path / "tables.cpp", *sorted(SOURCES.glob("*.cpp"))]
    subprocess.run(["c++", "-std=gnu++14", *SANITIZE, *EXTRA, f"-I{SOURCES}", *sources, "-o", program], check=True)
    run = subprocess.run([program], capture_output=True)
    assert run.returncode == 0, run.stderr.decode()[-3000:]
    assert run.stdout.startswith(b"TTDL")
