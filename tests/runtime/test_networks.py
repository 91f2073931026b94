"""Two of the paper's networks learn traffic signs, on this machine and within the memory of an emulated Nano 33 BLE: equal bit for bit.

The third, ProxylessNAS, is made of the operators of these; `choose/test_promises.py` runs all three.
"""

import os

import pytest

from keras_tinytrain.backbones.names import find_backbone
from keras_tinytrain.benchmark.device import EPSILON, LEARNING_RATE, WITHIN, curve_difference
from keras_tinytrain.benchmark.emulated import SIDES
from keras_tinytrain.benchmark.networks import find_network
from keras_tinytrain.benchmark.tasks import TaskShape, draw_task
from keras_tinytrain.choose import planner
from keras_tinytrain.choose.paper_cost import num_channels
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.data import load_npz
from keras_tinytrain.export import Board, TrainingSettings, board, export_tflm
from keras_tinytrain.fewshot.adaptation import adapt, prototype_classifier
from keras_tinytrain.model.fold import canonical_form
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import Budget
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.emulation import emulate_task
from keras_tinytrain.run.on_grid import on_grid_model

WAYS = 5
LONG = "KERAS_TINYTRAIN_LONG_TESTS"  # set: the whole training run
SHOTS, ITERATIONS = (5, 40) if os.environ.get(LONG) else (1, 3)
NANO = board("nano33ble")
KEPT = "adam_per_channel", "int8"  # 5 B of RAM that lasts for each trained weight, in place of 13
WEIGHTS = {"mcunet": "mcunet-5fps.npz", "mobilenet_v2": "mbv2-w0.35.npz"}


@pytest.fixture(scope="module", params=WEIGHTS)
def signs(request, shared_data, tmp_path_factory):
    """(bundle, x, y, Keras model); samples of the classes by turns."""
    side, macs = SIDES.get(request.param, 128), find_network(request.param).budget.compute
    model = find_backbone(request.param)((side, side, 3), weights=shared_data / "weights" / WEIGHTS[request.param])
    domain = load_npz(shared_data / "domains" / "traffic_sign_gtsrb_dev.npz", size=None)
    task = draw_task(domain, TaskShape(ways=WAYS, shots=SHOTS), model.input_shape[1:], seed=0, episode=0)
    order = [SHOTS * label + shot for shot in range(SHOTS) for label in range(WAYS)]
    x, y = task.support_x[order], task.support_y[order]
    loss, classifier = planner.summed_cross_entropy(y), prototype_classifier(model, x, y).model
    accounting = DeviceAccounting(*KEPT, num_samples=len(x), num_classes=WAYS, features="flash")
    plan = planner.choose(classifier, x, loss, Budget(NANO.available_sram_bytes, macs), accounting=accounting)
    training = TrainingSettings(*KEPT, iterations=ITERATIONS, num_classes=WAYS, max_samples=len(x))
    folder = tmp_path_factory.mktemp(request.param) / "signs"
    bundle = export_tflm(
        model, plan, calibration=x, out=folder, board=NANO, training=training, features="flash", head="prototypes"
    )
    return bundle, x, y, model


@pytest.fixture(scope="module")
def emulated(signs):
    return emulate_task(*signs[:3])


def test_training_is_the_same_on_the_board(signs, emulated):
    bundle, x, y, _ = signs
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    losses = host.train()
    assert emulated.losses == losses
    assert emulated.delta == host.trainer.save_delta(0)
    assert emulated.heap_bytes == 0


def test_board_leaves_room_for_its_core(emulated):
    """256 KB in all, with the stack and the memory of the Arduino core."""
    sram, flash = emulated.sram_bytes, emulated.flash_bytes
    assert sram["total"] - sram["stack"] <= NANO.available_sram_bytes
    assert sram["total"] < NANO.sram_bytes and flash["total"] < NANO.flash_bytes


def test_arena_equals_the_estimate_or_is_a_little_smaller(signs):
    bundle, x, _, model = signs
    accounting = DeviceAccounting(*KEPT, num_samples=len(x), num_classes=WAYS, features="flash")
    estimated = accounting.parts(layer_table(canonical_form(model)), num_channels(bundle.plan))["model_arena"]
    assert bundle.promised_bytes["sram"]["model_arena"] <= estimated < 1.02 * bundle.promised_bytes["sram"]["model_arena"]


@pytest.mark.parametrize("signs", ["mcunet"], indirect=True)
def test_losses_follow_keras_on_the_same_grid(signs, tmp_path):
    """Adam with float masters, as `adapt` has it; each iteration within 2 % of its own loss (`curve_difference`)."""
    bundle, x, y, model = signs
    training = TrainingSettings(
        learning_rate=LEARNING_RATE, epsilon=EPSILON, iterations=ITERATIONS, num_classes=WAYS, max_samples=len(x)
    )
    options = {"board": Board("roomy", "any", 1, 2**24, 2**24), "training": training, "weights_in_ram": "whole"}
    host = HostRuntime(export_tflm(model, bundle.plan, calibration=x, out=tmp_path / "signs", head="prototypes", **options))
    host.add_samples(x, y)
    losses = host.train()
    grid = on_grid_model(model, host.bundle)
    learned = adapt(grid, x, y, plan=bundle.plan, iterations=ITERATIONS, learning_rate=LEARNING_RATE, head="prototypes")
    assert len(losses) == len(learned.losses) == ITERATIONS and losses[-1] < losses[0]
    assert losses[0] == pytest.approx(learned.losses[0], rel=1e-5)
    assert curve_difference(losses, learned.losses)[1] <= WITHIN
