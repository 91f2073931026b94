"""The time of a task that an export tells: beside the emulated board's, and by the settings that it depends on."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.cli import emulated_task
from keras_tinytrain.device_settings import DeviceSettings
from keras_tinytrain.export import TrainingSettings, board, export_tflm
from keras_tinytrain.export.conversion import convert
from keras_tinytrain.export.layout import lay_out
from keras_tinytrain.export.request import check
from keras_tinytrain.export.rungs import highest_rung, rungs, told, within_time
from keras_tinytrain.export.task_time import TaskTime, bundle_time, task_time
from keras_tinytrain.plan import Budget, LayerPlan, Plan
from keras_tinytrain.run.emulation import emulate_task

NANO = board("nano33ble")
NAMED = TaskTime(samples=1.0, iteration=1.0, trained=0.5, prototypes=0.5, solve=0.1, answer=0.1, num_samples=25, iterations=10)
FAVOURED = dataclasses.replace(NAMED, iteration=2.0, trained=0.0, solve=0.0, choice=1.1, iterations=40)
TIME = dataclasses.replace(NAMED, choice=0.6, by_prototypes=FAVOURED)


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
    step = cycles["backward"] + cycles["update"] + cycles["trainable_forward"] / 3  # both solutions have two
    seconds = (cycles["total"] + (iterations - 1) * step) / NANO.clock_hz
    assert told.learn == pytest.approx(seconds, rel=0.1)
    assert str(told).startswith("It learns 25 samples in about ")


def _network_of_windows():
    """Convolutions along time, and samples of two classes."""
    layers = [keras.layers.Conv1D(12, size, padding="same", activation="relu", name=f"c{size}") for size in (7, 3, 5, 9)]
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((40, 6)), *layers, keras.layers.GlobalAveragePooling1D()])
    return model, np.random.default_rng(0).normal(np.arange(4)[:, None, None] % 2, size=(4, 40, 6)).astype(np.float32)


FOUR_SAMPLES = TrainingSettings(num_classes=2, max_samples=4)


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """A bundle that is exported to learn in a second, and its samples."""
    model, x = _network_of_windows()
    plan = Plan((LayerPlan("c3", (0, 1)), LayerPlan("c5", tuple(range(12)))), Budget(time="1s"))
    out = tmp_path_factory.mktemp("windows") / "bundle"
    return export_tflm(model, plan, calibration=x, out=out, head="prototypes", training=FOUR_SAMPLES), x, np.arange(4) % 2


def _request(model, plan, x, out, **said):
    said = {**dict.fromkeys(("board", "views", "features")), "split": True, **said}
    return check(model, plan, calibration=x, out=out, weights_in_ram="cheapest", sketch="serial", overwrite=False, **said)


def test_backward_passes_of_one_dimension_are_the_emulated_boards(windows):
    bundle, x, y = windows
    emulated, told = emulate_task(bundle, x, y, iterations=1, profile=True), bundle_time(bundle)
    cycles = emulated.cycles
    passes = cycles["trainable_forward"] * 2 / 3
    assert told.iteration * NANO.clock_hz == pytest.approx(cycles["backward"] + cycles["update"] + passes, rel=0.1)
    assert cycles["backward"] > 0.3 * passes


def test_export_trains_as_often_as_its_time_allows(windows):
    bundle, *_ = windows
    time = bundle_time(bundle)
    assert bundle.manifest["training"]["iterations"] == time.iterations < 40
    assert time.learn <= 1 < time.learn + time.iterations * time.iteration


def test_time_of_a_device_that_chooses_is_its_slower_heads():
    assert TIME.learn == pytest.approx(FAVOURED.learn) == pytest.approx(82.6)
    assert str(TIME) == (
        "It learns 25 samples in about 12.7 s by the closed form (10 iterations), 1 min 23 s if its samples favour the prototypes "
        "(40 iterations), and answers in about 100 ms."
    )
    assert TaskTime(**{**TIME.to_json(), "by_prototypes": TaskTime(**TIME.to_json()["by_prototypes"])}) == TIME


def test_rungs_go_down_from_forty_iterations_to_prototypes():
    seconds = [each.time.learn for each in rungs(TIME)]
    assert seconds == pytest.approx([82.6, 42.6, 22.6, 12.6, 2.1, 1.5])
    assert told(TIME, 30, NANO) == (
        "Within 30.0 s: 10 iterations, in 12.7 s by the closed form, 22.6 s if its samples favour the prototypes; 20 iterations "
        "would take 42.6 s. It answers in about 100 ms."
    )
    assert highest_rung(TIME, 12, NANO).name == "the closed-form head alone"
    assert highest_rung(TIME, 2, NANO).name == "prototypes alone"
    softmax = dataclasses.replace(NAMED, prototypes=0.0, solve=0.0)
    assert [each.time.iterations for each in rungs(softmax)] == [40, 20, 10, 5]


def test_time_that_nothing_fits_is_refused_with_the_smallest():
    with pytest.raises(ValueError, match="takes 1.5 s at least, by prototypes alone. Received: a budget of 1.0 s"):
        highest_rung(TIME, 1, NANO)
    with pytest.raises(ValueError, match="takes 1.6 s at least, by the closed-form head alone. Received: a budget of 1.5 s"):
        highest_rung(NAMED, 1.5, NANO)
    with pytest.raises(
        ValueError, match=r"cycles are known.* Received: board 'esp32s3' \(Xtensa LX7\).*TrainingSettings\(iterations="
    ):
        highest_rung(None, 1, board("esp32s3"))


@pytest.mark.parametrize("head", ["ridge", "auto"])
def test_prototypes_answer_where_there_is_no_time_to_solve_and_no_head_was_named(tmp_path, caplog, head):
    model, x = _network_of_windows()
    device = DeviceSettings(head=head, num_classes=2, max_samples=4)
    request = _request(model, Plan((LayerPlan("c5", (0, 1)),), device=device), x, tmp_path / "bundle", head=None, training=None)
    converted = convert(request)
    layout = lay_out(request, converted)
    assert within_time(request, converted, layout) == (request, converted, layout)
    alone = layout.time.with_iterations(0)
    enough = dataclasses.replace(request, seconds=1.001 * alone.learn)
    chosen, _, laid_out = within_time(enough, converted, layout)
    assert chosen.maps and laid_out.memory.closed_form and chosen.training.iterations == 0 and laid_out.time == alone
    assert f"the closed-form head alone, in {alone.told(iterations=False)}; 5 iterations" in caplog.text
    hasty = dataclasses.replace(request, seconds=0.99 * alone.learn)
    if head == "ridge":
        with pytest.raises(ValueError, match="at least, by the closed-form head alone"):
            within_time(hasty, converted, layout)
        return
    chosen, _, laid_out = within_time(hasty, converted, layout)
    assert chosen.maps is None and chosen.device.head == "prototypes" and not laid_out.memory.closed_form
    # The choice leaves the first iteration's prototypes: its own pass is not made.
    assert layout.time.trained == 0 and layout.time.by_prototypes.trained == pytest.approx(-layout.time.prototypes)
    assert laid_out.time.learn <= hasty.seconds and "prototypes alone, in" in caplog.text


@pytest.mark.parametrize(
    "budget, training, match",
    [
        (Budget("64KB", time=3), None, "expects Budget.time=.... alone"),
        (Budget(), None, "expects Budget.time=.... alone"),
        (
            Budget(time=3),
            TrainingSettings(iterations=7),
            "not both. Received: TrainingSettings.iterations=7. and Budget.time=3.0.",
        ),
    ],
)
def test_export_takes_a_time_alone(tmp_path, budget, training, match):
    with pytest.raises(ValueError, match=match):
        export_tflm(NanoNet(), Plan((LayerPlan("b6.pw1", (0,)),)), out=tmp_path / "none", budget=budget, training=training)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """What `task_time` looks at: both models and the graph."""
    model, x = _network_of_windows()
    plan, out = Plan((LayerPlan("c5", tuple(range(4))),)), tmp_path_factory.mktemp("models") / "bundle"
    request = _request(model, plan, x, out, head="prototypes", training=TrainingSettings(num_classes=5))
    converted = convert(request)
    layout = lay_out(request, converted)
    return converted.frozen, layout.trainable, layout.graph


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
    _, trainable, graph = models
    whole = task_time(None, trainable, graph, NANO, TrainingSettings(num_classes=5), num_views=0, head="prototypes")
    cut = task_time(*models, NANO, TrainingSettings(num_classes=5), num_views=0, head="prototypes")
    assert whole.learn < cut.learn and whole.answer < cut.answer
