"""Samples of no class on the device: the threshold and the familiarity against Python's rule on the same int8 rows."""

import numpy as np
import pytest
from models import images, labelled_images, sequence_net, tiny_net

from keras_tinytrain.delta import Delta
from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.fewshot._ridge_head import RidgeHead
from keras_tinytrain.fewshot.unknown import UNKNOWN, threshold
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime, classifier_from_device
from keras_tinytrain.run.from_device import _grid_of_a_row

WAYS, SHOTS, RATE = 4, 4, 0.1
NETS = {"ram": (sequence_net, "second"), "flash": (tiny_net, "b3_conv")}  # by where the features are kept


def backbone(features):
    import keras

    net = NETS[features][0]()
    return net if features == "ram" else keras.Model(net.input, net.get_layer("pool").output, name="backbone")


@pytest.fixture(scope="module", params=NETS)
def bundle(request, tmp_path_factory):
    features, (_, layer) = request.param, NETS[request.param]
    training = TrainingSettings(num_classes=WAYS, max_samples=WAYS * SHOTS, iterations=2, learning_rate=0.3)
    model = backbone(features)
    return export_tflm(
        model,
        Plan((LayerPlan(layer, (0, 1, 4)),)),
        calibration=images(model, 8),
        out=tmp_path_factory.mktemp("unknown") / features,
        head="ridge",
        training=training,
        features=features,
        reject_unknown=RATE,
    )


def task_of(bundle):
    model = backbone(bundle.path.name)
    x, y = labelled_images(model, per_class=SHOTS, classes=WAYS)
    return model, np.asarray(x), np.asarray(y)


def python_head(host, num_classes):
    """The head that Python solves for the device's int8 rows, in real values."""
    rows = np.stack([host.trainer.row(place) for place in range(host.trainer.num_samples)])
    scales, zero_points = _grid_of_a_row(host._tables)
    parts = tuple(host.bundle.manifest["closed_form"]["parts"])
    return RidgeHead.of(scales * (rows - zero_points), host.trainer.labels.astype(int), num_classes, (), parts)


def python_threshold(head):
    features, labels = head.support()

    def left_out(mask):
        rest = head.without(mask)
        answers = np.argmax(rest.logits(features[mask]), axis=1)
        return rest.familiarity(features[mask])[np.arange(len(answers)), answers]

    return threshold(labels, head.num_classes, RATE, left_out)


TASKS = {
    "classes": (WAYS, 0),
    "classes_and_others": (3, 3),
    "two_and_others": (2, 4),
    "two": (2, 0),
    "one": (1, 0),
    "one_and_others": (1, 3),
}


@pytest.mark.parametrize("task", TASKS)
def test_device_tells_unknown_samples_as_python_does(bundle, task):
    num_classes, num_others = TASKS[task]
    _, x, y = task_of(bundle)
    host = HostRuntime(bundle, settings={"num_classes": num_classes})
    known, others = y < num_classes, np.random.default_rng(0).uniform(-1, 1, (num_others, *x.shape[1:])).astype(np.float32)
    host.add_unknown(others[:1])  # not last
    host.add_samples(x[known], y[known])
    host.add_unknown(others[1:])
    left_out = host.solve()
    head = python_head(host, num_classes)
    assert left_out.shape == (known.sum() + num_others, num_classes + (num_others > 0))
    # On the device the centre is rounded to a step of int8, and directions and W are int8.
    assert host.threshold == pytest.approx(python_threshold(head), abs=0.05)
    stored = np.concatenate([others[:1], x[known], others[1:]])
    answers = host.predict(stored).argmax(axis=1)
    expected = head.familiarity(head.support()[0])[np.arange(len(stored)), answers]
    found = host.familiarity(stored)
    np.testing.assert_allclose(found, expected, atol=0.05)
    np.testing.assert_array_equal(host.predict_classes(stored), np.where(found < host.threshold, UNKNOWN, answers))


def test_promised_bytes_are_used(bundle):
    host = HostRuntime(bundle)
    _, x, y = task_of(bundle)
    host.add_samples(x, y)
    host.solve()
    assert host.bytes_used() == bundle.promised_bytes
    assert len(host.trainer.save_delta()) == host.trainer.delta_bytes()


def test_threshold_survives_a_power_cycle_training_and_the_way_to_keras(bundle):
    model, x, y = task_of(bundle)
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    host.solve()
    untrained = host.threshold, host.familiarity(x)
    host.train()
    assert host.threshold == untrained[0]  # the original network judges
    found = host.familiarity(x)
    host.save_to_flash()
    saved, answers = host.trainer.save_delta(), host.predict_classes(x)
    host.revert()
    assert not host.trainer.closed_form_answers
    host.load_from_flash()
    assert host.trainer.save_delta() == saved
    np.testing.assert_array_equal(host.familiarity(x), found)
    np.testing.assert_array_equal(host.predict_classes(x), answers)
    learned = classifier_from_device(model, bundle, Delta.from_bytes(saved))
    assert learned.threshold == pytest.approx(host.threshold)
    assert np.abs(learned.familiarity(x) - found).mean() < 0.3  # activations in int8


def test_few_samples_give_no_threshold(bundle):
    _, x, y = task_of(bundle)
    host = HostRuntime(bundle, settings={"num_classes": 2})
    host.add_samples(x[[0, SHOTS]], y[[0, SHOTS]])
    host.solve()
    assert host.threshold is None and (host.predict_classes(x) != UNKNOWN).all()


def test_training_leaves_samples_of_no_class_out(bundle):
    _, x, y = task_of(bundle)
    hosts = [HostRuntime(bundle, settings={"num_classes": 3}) for _ in range(2)]
    for host in hosts:
        host.add_samples(x[y < 3], y[y < 3])
    hosts[1].add_unknown(x[y == 3])
    losses = [host.train() for host in hosts]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(hosts[0].trainer.kernel(0), hosts[1].trainer.kernel(0))


@pytest.mark.parametrize("bundle", ["ram"], indirect=True)
def test_what_cannot_tell_unknown_samples_says_so(bundle, tmp_path):
    model, x, y = task_of(bundle)
    options = {
        "calibration": x,
        "out": tmp_path / "b",
        "training": TrainingSettings(num_classes=WAYS, max_samples=WAYS * SHOTS),
    }
    plan = Plan((LayerPlan(NETS[bundle.path.name][1], (0,)),))
    with pytest.raises(ValueError, match="below 0.5. Received: 0.7"):
        export_tflm(model, plan, head="ridge", reject_unknown=0.7, **options)
    with pytest.raises(ValueError, match="goes with head='ridge'"):
        export_tflm(model, plan, reject_unknown=0.1, **options)
    host = HostRuntime(export_tflm(model, plan, head="ridge", **options))
    with pytest.raises(ValueError, match="label is negative or not below"):
        host.add_unknown(x[:1])
    host.add_samples(x, y)
    host.solve()
    with pytest.raises(RuntimeError, match="reject_unknown=0.05"):
        host.familiarity(x)
