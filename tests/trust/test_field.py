"""A board in the field: what was saved can be taken back, and the host's flash is the board's."""

import numpy as np
import pytest
from models import images, labelled_images, small_net

from keras_tinytrain.export import Candidates, TrainingSettings, export_tflm
from keras_tinytrain.plan import Budget, LayerPlan, Plan
from keras_tinytrain.run import HostRuntime

pytestmark = pytest.mark.trust
WAYS, SHOTS = 3, 2
TRAINED = {
    "plan": Plan((LayerPlan("logits", (0, 1)),)),
    "adaptive": Candidates(last_blocks=2, budget=Budget("64KB", 0.4)),
}


@pytest.fixture(scope="module", params=TRAINED)
def task(request, tmp_path_factory):
    """(bundle, samples, labels)"""
    model, folder = small_net(), tmp_path_factory.mktemp("field")
    training = TrainingSettings(learning_rate=0.05, iterations=3, num_classes=WAYS, max_samples=WAYS * SHOTS)
    bundle = export_tflm(
        model, TRAINED[request.param], calibration=images(model, 8), out=folder / "net", head="prototypes", training=training
    )
    return bundle, *labelled_images(model, per_class=SHOTS, classes=WAYS)


def learned(task):
    bundle, x, y = task
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    host.train()
    return host


def test_slots_of_the_host_are_those_of_the_board(task):
    host = learned(task)
    assert host.bytes_used()["flash"]["deltas"] == host.slots.data.size == host.bundle.promised_bytes["flash"]["deltas"]
    host.save_to_flash()
    again = HostRuntime(host.bundle)
    again.slots.data[:] = host.slots.data
    again.load_from_flash()
    np.testing.assert_array_equal(again.predict(task[1]), host.predict(task[1]))


def test_what_was_saved_can_be_taken_back(task):
    host = learned(task)
    host.save_to_flash()
    answers = host.predict(task[1])
    host.revert()
    host.save_to_flash()
    again = HostRuntime(host.bundle)
    again.slots.data[:] = host.slots.data
    again.load_from_flash()
    assert again.trainer.is_as_exported
    again.undo()
    np.testing.assert_array_equal(again.predict(task[1]), answers)
    again.factory()
    assert again.trainer.is_as_exported
    with pytest.raises(ValueError, match="not a delta"):
        again.load_from_flash()
