"""Kernels, trainer and deltas on random data in 32 bits, under the address and undefined behaviour sanitizers, with guarded arenas."""

import subprocess

import pytest
from compiled_tables import entry_file
from models import images, separable_net, tiny_net

from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.plan import LayerPlan, Plan
from tests.runtime.gated_net import gated_net
from tests.runtime.net_tables import render_tables
from tests.runtime.paths import ROOT
from tests.runtime.sanitized import compile_sources, link
from tests.runtime.small_net import SPLIT, small_net

HOSTILE = ROOT / "tests" / "runtime" / "hostile"

EXPORTED = {  # model, trained channels
    "bottlenecks": (tiny_net, {"b1_expand": (0, 9), "b1_depthwise": (3,), "b2_project": (1, 3)}),
    "separable": (separable_net, {"s1_pointwise": (2, 7), "s3_depthwise": (0, 4)}),
}


@pytest.fixture(scope="module")
def runtime(runtime_of_32_bits, tmp_path_factory):
    """The runtime and the test's main function, compiled once for all tables."""
    return [*runtime_of_32_bits, *compile_sources([HOSTILE / "sanitize.cpp"], tmp_path_factory.mktemp("sanitize"))]


def run(runtime, tables, folder):
    """The program's output with the tables of these sources: a delta."""
    done = subprocess.run([link(folder / "program", f"-I{folder}", *tables, *runtime)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return done.stdout


@pytest.mark.parametrize(
    "head, views, by_channel, variant",
    [
        ("prototypes", (), 3, ""),
        ("prototypes", ((1, 0, False), (-40, 3, True)), 0, "picking"),
        ("softmax", (), 5, "split"),
        ("prototypes", ((1, 0, True),), 0, "gated"),
        ("prototypes", ((1, 0, True),), 1, "candidates"),
    ],
)
def test_random_data_cause_no_undefined_behaviour(head, views, by_channel, variant, runtime, tmp_path):
    candidates = ("kPerWeightAndMac", 10**6) if variant == "candidates" else ()
    net = small_net(head, by_channel=by_channel, picking=variant == "picking", candidates=candidates)
    if variant == "gated":
        net = gated_net()
    net.views, net.split = views, SPLIT if variant == "split" else ()
    (tmp_path / "tables.cpp").write_text(render_tables(net))
    assert run(runtime, [tmp_path / "tables.cpp"], tmp_path).startswith(b"TTDL")


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_networks_cause_no_undefined_behaviour(name, runtime, tmp_path):
    """The offsets that the exporter gives to gradients stay inside the bytes that it promises."""
    build, channels = EXPORTED[name]
    model, plan = build(), Plan(tuple(LayerPlan(*each) for each in channels.items()))
    training = TrainingSettings(num_classes=3, max_samples=9)
    bundle = export_tflm(model, plan, calibration=images(model, 8), out=tmp_path / "net", training=training, head="prototypes")
    sources = [bundle.path / "tables.cpp", bundle.path / "models.cpp", entry_file(bundle, tmp_path)]
    assert run(runtime, sources, bundle.path).startswith(b"TTDL")
