"""What the runtime leaves out changes no result: a program that leaves nothing out learns and answers the same, bit for bit."""

import keras
import numpy as np
import pytest
from keras import layers
from models import images, labelled_images

from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.emulation import emulate_task
from keras_tinytrain.run.firmware import build_firmware, compile_sources
from keras_tinytrain.tflm_runtime import firmware_dir, source_dir, sources

WAYS, SHOTS, ITERATIONS = 3, 2, 3
SAMPLES = WAYS * SHOTS


def bottlenecks(*, size, hidden, residual, pool=None):
    """Two inverted bottlenecks, whose end has one gradient at all positions: only a mean over them reads it, or a sum that it reads."""
    keras.utils.set_random_seed(3)
    image = keras.Input((2 * size, 2 * size, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu6", name="stem")(image)
    for block in ("b1", "b2"):
        y = layers.Conv2D(hidden, 1, activation="relu6", name=f"{block}_expand")(x)
        y = layers.DepthwiseConv2D(3, padding="same", activation="relu6", name=f"{block}_depthwise")(y)
        y = layers.Conv2D(8, 1, name=f"{block}_project")(y)
        x = layers.Add(name=f"{block}_add")([x, y]) if residual else y
    x = layers.GlobalAveragePooling2D()(x) if pool is None else layers.Flatten()(layers.AveragePooling2D(pool)(x))
    return keras.Model(image, x)


CASES = {  # the network, what it trains, where its samples lie
    "residual": ({"size": 4, "hidden": 24, "residual": True}, {"b1_expand": (1, 4, 7), "b2_depthwise": (2,)}, "ram"),
    "split": ({"size": 4, "hidden": 24, "residual": False}, {"b1_depthwise": (3,), "b2_project": (0, 5)}, "flash"),
    "few positions": ({"size": 2, "hidden": 40, "residual": False}, {"b1_expand": (0, 39)}, "ram"),
    "few channels": ({"size": 4, "hidden": 24, "residual": False}, {"b2_expand": (5, 6)}, "flash"),
    "not over all positions": ({"size": 4, "hidden": 24, "residual": True, "pool": 2}, {"b1_project": (1, 2)}, "ram"),
}


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """Objects of the runtime that leaves nothing out."""
    folders = [f"-I{folder}" for folder in (firmware_dir(), source_dir())]
    return compile_sources(sources(), tmp_path_factory.mktemp("exact"), flags=[*folders, "-std=gnu++14", "-DTINYTRAIN_EXACT"])


@pytest.mark.parametrize("case", CASES)
def test_board_learns_the_same_where_nothing_is_left_out(case, exact, tmp_path):
    network, trained, features = CASES[case]
    model = bottlenecks(**network)
    plan = Plan(tuple(LayerPlan(name, channels) for name, channels in trained.items()))
    training = TrainingSettings(
        learning_rate=0.05, iterations=ITERATIONS, num_classes=WAYS, max_samples=SAMPLES, late_prototypes=False
    )
    bundle = export_tflm(
        model,
        plan,
        calibration=images(model, 8),
        out=tmp_path / "b",
        training=training,
        head="ridge",
        features=features,
        views=((1, 0, False),),
    )
    x, y = labelled_images(model, per_class=SHOTS, classes=WAYS)
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    losses = host.train()
    task = emulate_task(bundle, x, y, queries=x, program=build_firmware(bundle, tmp_path, library=exact))
    assert task.delta == host.trainer.save_delta(0)
    assert task.losses == losses and len(set(losses)) == ITERATIONS
    np.testing.assert_array_equal(task.logits, host.predict(x))
    assert task.calls["trainable_forward"] == 2 * ITERATIONS * SAMPLES + 2 * SAMPLES
