"""Forward passes that are not made: how many are left, and what is learned without them."""

import numpy as np
import pytest
from models import images, labelled_images, pooled_net

from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.micro_model import MicroModel

WAYS, SHOTS, ITERATIONS = 3, 2, 3
SAMPLES = WAYS * SHOTS


@pytest.fixture(params=[(), ((1, 0),)], ids=["plain", "views"])
def bundle(request, tmp_path):
    model = pooled_net()
    plan = Plan((LayerPlan("first", (0, 5)), LayerPlan("hidden", (1, 7))))
    training = TrainingSettings(learning_rate=0.01, iterations=ITERATIONS, num_classes=WAYS, max_samples=SAMPLES)
    return export_tflm(
        model, plan, calibration=images(model, 8), out=tmp_path / "b", training=training, views=request.param, head="prototypes"
    )


@pytest.fixture
def samples():
    return labelled_images(pooled_net(), per_class=SHOTS, classes=WAYS)


def test_the_first_prototypes_are_the_original_ones(bundle, samples, monkeypatch):
    passes, run = [], MicroModel.__call__
    monkeypatch.setattr(MicroModel, "__call__", lambda self, x: (passes.append(1), run(self, x))[1])
    host = HostRuntime(bundle)
    host.add_samples(*samples)
    passes.clear()
    host.train()
    assert len(passes) == ITERATIONS * 2 * SAMPLES + SAMPLES


def test_late_prototypes_take_one_pass_a_sample(bundle, samples, monkeypatch):
    passes, run = [], MicroModel.__call__
    monkeypatch.setattr(MicroModel, "__call__", lambda self, x: (passes.append(1), run(self, x))[1])
    host = HostRuntime(bundle, settings={"late_prototypes": True})
    host.add_samples(*samples)
    passes.clear()
    host.train()
    assert len(passes) == 2 * SAMPLES + (ITERATIONS - 1) * SAMPLES + SAMPLES


def test_the_original_prototypes_are_those_of_passes_of_their_own(bundle, samples):
    """After a delta was loaded, they are embedded again."""
    host, again = HostRuntime(bundle), HostRuntime(bundle)
    for runtime in (host, again):
        runtime.add_samples(*samples)
    host.train()
    delta = bytes(host.trainer.save_delta(0))
    again.trainer.load_delta(delta)
    again.trainer.update_prototypes()
    assert bytes(again.trainer.save_delta(0)) == delta
    x = samples[0]
    np.testing.assert_array_equal(again.predict(x), host.predict(x))


def test_samples_that_come_later_are_in_the_original_prototypes(bundle, samples):
    """Trained, then a sample more, then trained on: as from a delta with all samples."""
    x, y = samples
    host, again = HostRuntime(bundle), HostRuntime(bundle)
    host.add_samples(x[:-1], y[:-1])
    host.train()
    host.add_samples(x[-1:], y[-1:])
    host.trainer.update_prototypes()
    again.add_samples(x, y)
    again.trainer.load_delta(bytes(host.trainer.save_delta(0)))
    again.trainer.update_prototypes()
    assert bytes(again.trainer.save_delta(0)) == bytes(host.trainer.save_delta(0))
