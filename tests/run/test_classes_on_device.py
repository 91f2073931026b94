"""Classes that come and go on the device, and samples in flash that are there next week."""

import keras
import numpy as np
import pytest
from models import images, labelled_images, sequence_net, tiny_net

from keras_tinytrain.delta import Delta
from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime

WAYS, SHOTS = 4, 3
LAYERS = {"ram": "second", "flash": "b3_conv"}  # by where the features are kept


def backbone(features):
    if features == "ram":
        return sequence_net()
    net = tiny_net()
    return keras.Model(net.input, net.get_layer("pool").output, name="backbone")


@pytest.fixture(scope="module", params=LAYERS)
def bundle(request, tmp_path_factory):
    features = request.param
    model = backbone(features)
    return export_tflm(
        model,
        Plan((LayerPlan(LAYERS[features], (0, 1, 4)),)),
        calibration=images(model, 8),
        out=tmp_path_factory.mktemp("classes") / features,
        head="ridge",
        training=TrainingSettings(num_classes=WAYS, max_samples=WAYS * SHOTS, iterations=2, learning_rate=0.3),
        features=features,
        views=((1, 0),),
    )


@pytest.fixture
def task(bundle):
    return labelled_images(backbone(bundle.path.name), per_class=SHOTS, classes=WAYS)


def solved(bundle, x, y):
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    host.solve()
    return host


def test_classes_that_are_added_are_as_if_they_had_been_there(bundle, task):
    x, y = task
    host = solved(bundle, x[y < 2], y[y < 2])
    assert host.predict_classes(x).max() == 1
    assert (host.predict(x)[:, 2:] < -1e6).all()  # classes without samples are never answered
    assert [host.add_class(x[y == label]) for label in (2, 3)] == [2, 3]
    np.testing.assert_array_equal(host.predict(x), solved(bundle, x, y).predict(x))
    with pytest.raises(RuntimeError, match="All 4 classes have samples"):
        host.add_class(x[:1])


def test_a_class_that_is_removed_is_as_if_it_had_never_been(bundle, task):
    x, y = task
    host, rest = solved(bundle, x, y), y != 1
    host.remove_class(1)
    np.testing.assert_array_equal(host.predict(x), solved(bundle, x[rest], y[rest]).predict(x))
    assert 1 not in host.predict_classes(x)
    delta = host.trainer.save_delta()
    other = HostRuntime(bundle)
    other.trainer.load_delta(delta)
    np.testing.assert_array_equal(other.predict(x), host.predict(x))
    with pytest.raises(ValueError, match="label is negative or not below"):
        host.remove_class(WAYS)
    host.remove_class(0)
    with pytest.raises(RuntimeError, match="two classes"):
        host.remove_class(2)


def test_places_of_forgotten_samples_are_free_in_ram(bundle, task):
    x, y = task
    host = solved(bundle, x, y)
    host.remove_class(1)
    if bundle.path.name == "flash":
        with pytest.raises(RuntimeError, match="clear_samples"):
            host.add_class(x[y == 1])
        return
    assert host.add_class(x[y == 1]) == 1
    host.train()  # views have moved with their samples
    order = np.concatenate([np.flatnonzero(y != 1), np.flatnonzero(y == 1)])
    other = solved(bundle, x[order], y[order])
    other.train()
    assert host.trainer.save_delta() == other.trainer.save_delta()


def test_training_passes_over_forgotten_samples(bundle, task):
    x, y = task
    host = HostRuntime(bundle, settings={"num_classes": 3})
    host.add_samples(np.concatenate([x[y == 2], x[y < 2]]), np.concatenate([y[y == 2], y[y < 2]]))
    host.trainer.forget_class(2)
    host.add_samples(x[y == 3], np.full(SHOTS, 2))
    losses = host.train()
    other = HostRuntime(bundle, settings={"num_classes": 3})
    order = np.concatenate([np.flatnonzero(y < 2), np.flatnonzero(y == 3)])
    other.add_samples(x[order], np.minimum(y[order], 2))
    assert other.train() == losses
    np.testing.assert_array_equal(host.predict(x), other.predict(x))


def next_week(host, bundle):
    """The same board after a power cycle: its flash stays."""
    board = HostRuntime(bundle)
    board.feature_flash.data[:], board.slots.data[:] = host.feature_flash.data, host.slots.data
    board.load_from_flash()
    return board


@pytest.mark.parametrize("bundle", ["flash"], indirect=True)
def test_samples_in_flash_are_there_after_a_power_cycle(bundle, task):
    x, y = task
    host = solved(bundle, x[y < 3][:-1], y[y < 3][:-1])
    host.save_to_flash()
    board = next_week(host, bundle)
    assert board.trainer.labels.tolist()[: host.trainer.num_samples] == host.trainer.labels.tolist()
    assert board.trainer.is_saved(board.slots) and board.trainer.save_delta() == host.trainer.save_delta()
    for each in (host, board):
        each.clear_samples()
        each.add_samples(x, y)  # all of flash is written again
        each.solve()
    assert board.trainer.save_delta() == host.trainer.save_delta()


@pytest.mark.parametrize("bundle", ["flash"], indirect=True)
def test_more_samples_of_an_old_class_need_no_old_images(bundle, task):
    x, y = task
    order = np.argsort(np.arange(len(y)) % SHOTS, kind="stable")  # the first of each class, the second of each, ...
    x, y, half = x[order], y[order], 2 * WAYS
    host = solved(bundle, x[:half], y[:half])
    host.save_to_flash()
    board = next_week(host, bundle)
    free = WAYS * SHOTS - board.trainer.num_samples  # what shares a page that cannot be erased alone is lost
    assert free > 0
    board.add_samples(x[-free:], y[-free:])
    board.solve()
    kept = np.r_[0:half, len(y) - free : len(y)]
    np.testing.assert_array_equal(board.predict(x), solved(bundle, x[kept], y[kept]).predict(x))


@pytest.mark.parametrize("bundle", ["flash"], indirect=True)
def test_samples_that_were_overwritten_do_not_come_back(bundle, task):
    x, y = task
    host = solved(bundle, x, y)
    host.save_to_flash()
    host.feature_flash.data[0] ^= 1
    board = next_week(host, bundle)
    labels = board.trainer.labels
    assert labels[0] == 255 and labels[1:].tolist() == y[1:].tolist()
    np.testing.assert_array_equal(board.predict(x), host.predict(x))
    kept = HostRuntime(bundle)
    kept.add_samples(x[:2], y[:2])
    kept.trainer.load_delta(host.trainer.save_delta())
    assert kept.trainer.labels.tolist() == y[:2].tolist()  # a trainer with samples keeps them
    slot = host.slots.data.tobytes()
    records = Delta.from_bytes(slot[: int.from_bytes(slot[12:16], "little")]).records
    (record,) = (each for each in records if each.name == "samples")
    assert (record.values @ [1, 128]).tolist() == y.tolist()
