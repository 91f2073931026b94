"""The time of a task that an export tells: beside the emulated board's, and by the settings that it depends on."""

import dataclasses

import pytest

from keras_tinytrain.cli import emulated_task
from keras_tinytrain.export import TrainingSettings, board
from keras_tinytrain.export.task_time import bundle_time, task_time
from keras_tinytrain.run.emulation import emulate_task

NANO = board("nano33ble")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The demo's bundle and task."""
    return emulated_task._demo_task(tmp_path_factory.mktemp("time"))


def test_time_is_the_emulated_boards(digits):
    bundle, (x, y), _ = digits
    told = bundle_time(bundle)
    assert told.num_samples == len(x)
    emulated = emulate_task(bundle, x, y, iterations=1)
    cycles, iterations = emulated.cycles, bundle.manifest["training"]["iterations"]
    step = cycles["backward"] + cycles["update"] + cycles["trainable_forward"] * 2 / 3  # one pass of three belongs to the end
    seconds = (cycles["total"] + (iterations - 1) * step) / NANO.clock_hz
    assert told.learn == pytest.approx(seconds, rel=0.15)
    assert str(told).startswith("It learns 25 samples in about ")


@pytest.fixture(scope="module")
def models(digits):
    return digits[0].frozen, digits[0].trainable


def test_time_grows_with_the_settings(models):
    def time(views=0, head="prototypes", target=NANO, **training):
        return task_time(*models, target, TrainingSettings(num_classes=5, **training), num_views=views, head=head)

    plain = time()
    assert time(max_samples=50).learn == pytest.approx(2 * plain.learn, rel=0.01)
    assert 1.8 * plain.learn < time(iterations=80).learn < 2 * plain.learn
    assert time(views=2).learn > plain.learn and time(views=2).answer == plain.answer
    assert time(average=0.0).answer < plain.answer
    assert time(head="softmax").learn < plain.learn  # no prototypes are embedded
    fast = dataclasses.replace(NANO, clock_hz=2 * NANO.clock_hz)
    assert time(target=fast).learn == pytest.approx(plain.learn / 2)
    assert time(target=dataclasses.replace(NANO, kernels="reference")).learn > 2 * plain.learn


def test_time_of_other_processors_is_not_told(models):
    settings = TrainingSettings(num_classes=5)
    assert task_time(*models, board("esp32s3"), settings, num_views=0, head="prototypes") is None


def test_a_model_without_a_frozen_part_opens_once(models):
    _, trainable = models
    whole = task_time(None, trainable, NANO, TrainingSettings(num_classes=5), num_views=0, head="prototypes")
    cut = task_time(*models, NANO, TrainingSettings(num_classes=5), num_views=0, head="prototypes")
    assert whole.learn < cut.learn and whole.answer < cut.answer
