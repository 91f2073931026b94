"""Maps in stored samples: the closed-form head reads them there, and the trainable part begins right before what is trained."""

import dataclasses

import numpy as np
import pytest
from models import images, labelled_images, stored_maps_net

from keras_tinytrain import Budget
from keras_tinytrain.device_settings import DeviceSettings
from keras_tinytrain.export import BOARDS, Bundle, Candidates, TrainingSettings, export_tflm
from keras_tinytrain.export.planning import rehearse
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import EdgeRuntime, HostRuntime
from keras_tinytrain.run.emulation import emulate_task

WAYS, SHOTS = 3, 2
PLAN = Plan((LayerPlan("b4_depthwise", (1, 5)),))
TRAINING = TrainingSettings(learning_rate=0.05, iterations=3, num_classes=WAYS, max_samples=WAYS * SHOTS)
NANO = BOARDS["nano33ble"]


@pytest.fixture(scope="module")
def samples():
    return labelled_images(stored_maps_net(), per_class=SHOTS, classes=WAYS)


def export(out, **options):
    model = stored_maps_net()
    options = {"head": "ridge", "training": TRAINING, "features": "flash", **options}
    return export_tflm(model, options.pop("plan", PLAN), calibration=images(model, 8), out=out, **options)


def stored(bundle):
    return bundle.manifest["closed_form"]["stored_maps"]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """{where the samples lie: (with maps in them, without)}: on a board with less SRAM the maps are computed in each pass."""
    found = {}
    for features in ("ram", "flash"):
        folder = tmp_path_factory.mktemp(features)
        held = export(folder / "held", features=features)
        available = held.promised_bytes["sram"]["total"] - 1
        less = dataclasses.replace(NANO, reserved_sram_bytes=NANO.sram_bytes - available)
        found[features] = held, export(folder / "less", features=features, board=less)
    return found


@pytest.mark.parametrize("features", ["ram", "flash"])
def test_what_is_learned_is_the_same(features, bundles, samples):
    x, y = samples
    found = []
    for bundle in bundles[features]:
        host = HostRuntime(Bundle.load(bundle.path))
        host.add_samples(x, y)
        left_out = host.solve()
        host.trainer.revert()
        losses = host.train()
        assert host.bytes_used() == bundle.promised_bytes
        found.append((bytes(host.trainer.save_delta(0)), losses, left_out.tobytes(), host.predict(x).tobytes()))
    assert found[0] == found[1]
    held, less = bundles[features]
    assert stored(held) == ["b2_project", "b3_add"][: len(stored(held))] and stored(held) and not stored(less)
    assert held.manifest["closed_form"]["maps"] == less.manifest["closed_form"]["maps"]
    num_operators = [len(fb.read_model(bundle.trainable).subgraphs[0].operators) for bundle in (held, less)]
    assert num_operators[0] < num_operators[1]


def test_maps_follow_what_the_trainable_part_reads(bundles, samples):
    held = bundles["flash"][0]
    host = HostRuntime(held)
    host.add_samples(*samples)
    frozen = host._frozen(host.quantise(samples[0])[4])
    assert len(frozen) == 1 + len(stored(held)) and sum(output.size for output in frozen) == held.manifest["features"]["size"]
    place = host.feature_flash.data[4 * 256 * -(-held.manifest["features"]["size"] // 256) :]
    np.testing.assert_array_equal(
        place[: held.manifest["features"]["size"]].view(np.int8), np.concatenate([output.ravel() for output in frozen])
    )


def test_board_and_linux_learn_the_same(bundles, samples):
    held = bundles["flash"][0]
    host, edge = HostRuntime(held), EdgeRuntime(held)
    for runtime in (host, edge):
        runtime.add_samples(*samples)
        runtime.train()
    delta = bytes(host.trainer.save_delta(0))
    assert bytes(edge.trainer.save_delta(0)) == delta
    task = emulate_task(held, *samples, queries=samples[0])
    assert task.delta == delta
    np.testing.assert_array_equal(task.logits, host.predict(samples[0]))


def test_views_hold_them_too(samples, tmp_path):
    bundle = export(tmp_path / "b", views=((0, 1),))
    host = HostRuntime(bundle)
    host.add_samples(*samples)
    host.train()
    assert stored(bundle) and host.bytes_used() == bundle.promised_bytes


def test_they_stay_within_the_budget_of_the_plan(bundles, tmp_path, caplog):
    held, less = bundles["ram"]
    needed = held.promised_bytes["sram"]["total"]
    plan = dataclasses.replace(PLAN, budget=Budget(memory=max(needed - 1, less.promised_bytes["sram"]["total"])))
    assert less.promised_bytes["sram"]["total"] < needed
    assert not stored(export(tmp_path / "b", plan=plan, features="ram")) and not caplog.messages


def test_plan_tells_of_the_export_with_them(tmp_path):
    device = DeviceSettings(head="ridge", features="flash", num_classes=WAYS, max_samples=WAYS * SHOTS)
    model = stored_maps_net()
    planned = rehearse(model, images(model, 8), device).plan(
        device, lambda accounting, frozen: dataclasses.replace(PLAN, device=device)
    )
    bundle = export_tflm(model, planned.plan, calibration=images(model, 8), out=tmp_path / "b")
    assert planned.layout.flash == bundle.promised_bytes["flash"] and planned.layout.graph.stored_maps


def test_bundle_that_never_trains_computes_them(tmp_path):
    assert not stored(export(tmp_path / "b", training=dataclasses.replace(TRAINING, iterations=0)))


def test_device_that_chooses_what_to_train_computes_them(tmp_path):
    candidates = Candidates(layers=("b4_depthwise", "b4_project"), budget=Budget("64KB"))
    assert not stored(export(tmp_path / "b", plan=candidates))
