"""MCUNet at 128x128 learns traffic signs, on this machine and on an emulated Cortex-M4F: equal bit for bit."""

import os

import pytest

from keras_tinytrain import planner
from keras_tinytrain.backbones import MCUNet
from keras_tinytrain.benchmark.networks import find_network
from keras_tinytrain.benchmark.tasks import TaskShape, draw_task
from keras_tinytrain.cost import PaperAccounting
from keras_tinytrain.domains import load_npz
from keras_tinytrain.export import Board, HostRuntime, TrainingSettings, export_tflm
from keras_tinytrain.export.emulator import emulate_task
from keras_tinytrain.fewshot.adapt import prototype_classifier

WAYS = 5
LONG = "KERAS_TINYTRAIN_LONG_TESTS"  # set: the whole training run
SHOTS, ITERATIONS = (5, 40) if os.environ.get(LONG) else (1, 3)
ROOMY = Board("mps2-an386", "Cortex-M4F", 25_000_000, 2**22, 2**22)


@pytest.fixture(scope="module")
def signs(shared_data, tmp_path_factory):
    """(bundle, x, y); samples of the classes by turns."""
    model = MCUNet(weights=shared_data / "weights" / "mcunet-5fps.npz")
    domain = load_npz(shared_data / "domains" / "traffic_sign_gtsrb_dev.npz", size=None)
    task = draw_task(domain, TaskShape(ways=WAYS, shots=SHOTS), model.input_shape[1:], seed=0, episode=0)
    order = [SHOTS * label + shot for shot in range(SHOTS) for label in range(WAYS)]
    x, y = task.support_x[order], task.support_y[order]
    loss, classifier = planner.summed_cross_entropy(y), prototype_classifier(model, x, y).model
    plan = planner.choose(classifier, x, loss, find_network("mcunet").budget, accounting=PaperAccounting())
    training = TrainingSettings(iterations=ITERATIONS, num_classes=WAYS, max_samples=len(x))
    folder = tmp_path_factory.mktemp("mcunet") / "signs"
    return export_tflm(model, plan, calibration=x, out=folder, board=ROOMY, training=training), x, y


def test_training_is_the_same_on_the_board(signs):
    bundle, x, y = signs
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    losses = host.train()
    emulated = emulate_task(bundle, x, y)
    assert emulated.losses == losses
    assert emulated.delta == host.trainer.save_delta(0)
    assert emulated.heap_bytes == 0
