"""A device that chooses its head by its own samples: by the rule of `adapt`, and then equal to a device that has that head alone."""

import numpy as np
import pytest
from models import images, labelled_images, sequence_net

from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.fewshot._choice_of_head import closed_form_holds
from keras_tinytrain.fewshot._ridge_head import RidgeHead
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.from_device import _grid_of_a_row
from tests.run.test_closed_form import SHOTS, WAYS, backbone

NETS = {"images": (backbone, {"b2_expand": (0, 1), "b3_conv": (1, 4)}), "windows": (sequence_net, {"second": (1, 2, 4, 5)})}
PROTOTYPES = {"images": (10, True), "windows": (40, False)}  # iterations, late prototypes where the device chose them
RATE = 0.3


def export(out, net, head=None, iterations=None):
    build, trained = NETS[net]
    plan = Plan(tuple(LayerPlan(name, channels) for name, channels in trained.items()))
    iterations, late = PROTOTYPES[net] if head == "prototypes" else (iterations, None)
    training = TrainingSettings(
        num_classes=WAYS, max_samples=WAYS * SHOTS, learning_rate=RATE, iterations=iterations, late_prototypes=late
    )
    return export_tflm(build(), plan, calibration=images(build(), 8), out=out, head=head, training=training)


@pytest.fixture(scope="module", params=NETS)
def bundles(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    heads = {"auto": None, "ridge": "ridge", "prototypes": "prototypes"}
    return request.param, {name: export(folder / name, request.param, head) for name, head in heads.items()}


def taught(bundle, x, y, **settings):
    host = HostRuntime(bundle, settings=settings or None)
    host.add_samples(x, y)
    return host


def labels_by_choice(net, bundle):
    """{whether the closed form answers: labels for which it does, or not}, in Keras by the device's own rows."""
    x, y = labelled_images(NETS[net][0](), per_class=SHOTS, classes=WAYS)
    host, found = taught(bundle, x, y), {}
    host.solve()
    scales, zero_points = _grid_of_a_row(host._tables)
    rows = scales * (np.stack([host.trainer.row(i) for i in range(len(x))]) - zero_points)
    parts = tuple(bundle.manifest["closed_form"]["parts"])
    rng = np.random.default_rng(0)
    for labels in (y, *(rng.permutation(y) for _ in range(20))):
        head = RidgeHead.of(rows, labels, WAYS, (), parts)
        found.setdefault(closed_form_holds(head, in_time=net == "windows"), labels)
    return x, found


def test_device_chooses_as_keras_and_learns_as_with_that_head_alone(bundles):
    net, exported = bundles
    x, labels = labels_by_choice(net, exported["auto"])
    assert set(labels) == {True, False}
    for holds, y in labels.items():
        host = taught(exported["auto"], x, y)
        host.solve()
        assert host.trainer.closed_form_answers == holds
        alone = taught(exported["ridge" if holds else "prototypes"], x, y)
        losses = host.train()
        assert losses == alone.train() and len(losses) == (10 if holds else PROTOTYPES[net][0])
        np.testing.assert_array_equal(host.predict(x), alone.predict(x))
        assert bytes(host.trainer.save_delta(0)) == bytes(alone.trainer.save_delta(0))
        assert host.trainer.closed_form_answers == holds
        untrained = taught(exported["auto"], x, y)
        assert untrained.train() == losses  # it chooses at the start of training


def test_what_a_caller_says_of_training_holds_for_both_heads(bundles):
    net, exported = bundles
    x, labels = labels_by_choice(net, exported["auto"])
    for y in labels.values():
        assert len(taught(exported["auto"], x, y, iterations=2).train()) == 2


def test_windows_of_one_sample_a_class_keep_the_prototypes_and_a_class_without_samples_the_closed_form(bundles):
    net, exported = bundles
    x, y = labelled_images(NETS[net][0](), per_class=SHOTS, classes=WAYS)
    first = np.unique(y, return_index=True)[1]
    host = taught(exported["auto"], x[first], y[first])
    host.solve()
    assert host.trainer.closed_form_answers == (net == "images")
    host.clear_samples()
    host.add_samples(x[y < 2], y[y < 2])
    host.solve()
    assert host.trainer.closed_form_answers and set(host.predict(x).argmax(axis=1)) <= {0, 1}


def test_promised_bytes_are_those_of_the_closed_form(bundles):
    _, exported = bundles
    host = taught(exported["auto"], *labelled_images(NETS[bundles[0]][0](), per_class=SHOTS, classes=WAYS))
    host.train()
    assert host.bytes_used() == exported["auto"].promised_bytes
    assert exported["auto"].promised_bytes["sram"] == exported["ridge"].promised_bytes["sram"]
