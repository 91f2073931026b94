"""Keras on the device's grid: outputs equal the int8 kernels bit for bit, gradients and whole training runs equal the C++."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from bundle_reference import by_channel
from models import branches_net, gated_net, images, joined_net, labelled_images, pooled_net, sequence_net, tiny_net

from keras_tinytrain.benchmark.device import EPSILON, curve_difference
from keras_tinytrain.export import Board, TrainingSettings, export_tflm
from keras_tinytrain.fewshot.adaptation import adapt
from keras_tinytrain.fewshot.augmentation import shift_views
from keras_tinytrain.fewshot.training import leave_one_out_losses
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.on_grid import on_grid_model
from keras_tinytrain.run.quantise import quantise
from tests.run.test_host import BLOCKS, leaky_net, picking_net, plan_of

WAYS, SHOTS, ITERATIONS, RATE, SHIFTS = 4, 3, 40, 3e-3, ((0, 1, 0), (-2, 0, 1))


def sequence_of_image():
    """`sequence_net` on images of height 1, of which there are views."""
    image = keras.Input((1, 20, 3))
    return keras.Model(image, sequence_net()(keras.layers.Reshape((20, 3), name="window")(image)))


CASES = {
    "blocks": (tiny_net, BLOCKS),
    "early": (tiny_net, plan_of(b1_expand=(0, 9), b1_depthwise=(3,))),
    "pooled": (pooled_net, plan_of(first=(0, 5), second=(1,), hidden=(0, 7))),
    "picking": (picking_net, plan_of(first=(0, 5), second=(1, 2))),
    "sequence": (sequence_of_image, plan_of(first=(0, 7), causal=(1, 6), depthwise=(0, 3), embedding=(2,))),
    "gated": (gated_net, plan_of(stem=(1, 6), expand=(3,), gate=(0, 9), project=(2,))),
    "joined": (joined_net, plan_of(stem=(0, 5), left=(1,), right=(2, 3), along=(4,))),
    "branches": (
        branches_net,
        plan_of(stem=(0, 5), near=(1,), elu=(2,), relu=(0, 3), sigmoid=(1,), tanh=(4,), gate1=(0, 17)),
    ),
    "leaky": (leaky_net, plan_of(first=(0, 5), second=(1, 2), third=(3,))),
}


class Case:
    def __init__(self, name, folder):
        build, self.plan = CASES[name]
        self.model = build()
        self.x, self.y = labelled_images(self.model, per_class=SHOTS, classes=WAYS)
        training = TrainingSettings(
            learning_rate=RATE, epsilon=EPSILON, iterations=ITERATIONS, num_classes=WAYS, max_samples=len(self.x)
        )
        self.bundle = export_tflm(
            self.model,
            self.plan,
            calibration=images(self.model, 8),
            out=folder,
            training=training,
            views=SHIFTS,
            board=Board("roomy", "any", 1, 2**24, 2**24),
            weights_in_ram="whole",
            head="prototypes",
        )
        self.grid = on_grid_model(self.model, self.bundle)
        self.host = HostRuntime(self.bundle)
        self.host.add_samples(self.x, self.y)


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    return Case(request.param, tmp_path_factory.mktemp("grid") / request.param)


def test_outputs_equal_the_int8_model_bit_for_bit(case):
    host, output = case.host, case.bundle.manifest["output"]
    compiled = tf.function(case.grid, jit_compile=False)
    between_two_steps = np.round(case.x * 127.5 - 0.5) / 127.5
    for x in (case.x, images(case.model, 20, seed=5), between_two_steps):
        expected = [host._trainable(host._frozen(q[None])[0] if host._frozen else q[None])[0] for q in host.quantise(x)]
        for run in (case.grid, compiled):
            assert np.array_equal(quantise(output, run(x.astype(np.float32))), np.concatenate(expected).reshape(len(x), -1))


def test_gradients_equal_the_c_plus_plus(case):
    """Of the first iteration's loss: prototypes from the samples themselves, queries their first view."""
    loss, membership = case.host.trainer.compute_gradients(), np.eye(WAYS)[case.y]
    layers = [case.grid.get_layer(name) for name in case.bundle.manifest["trained"]]
    with tf.GradientTape() as tape:
        embeddings = [tf.cast(case.grid(x), tf.float64) for x in (shift_views(case.x, SHIFTS)[0], case.x)]
        ours = tf.reduce_mean(leave_one_out_losses(*embeddings, membership))
    assert loss == pytest.approx(float(ours), rel=1e-6)
    gradients = tape.gradient(ours, [[layer.kernel.value, layer.bias.value] for layer in layers])
    for index, (layer, (d_kernel, d_bias)) in enumerate(zip(layers, gradients, strict=True)):
        expected = by_channel(case.grid, layer.name, case.plan, d_kernel, d_bias)
        for actual, value in zip(case.host.trainer.weight_gradients(index), expected, strict=True):
            assert np.abs(value).max() > 0
            np.testing.assert_allclose(actual, value, rtol=0, atol=1e-5 * np.abs(value).max(), err_msg=layer.name)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["blocks", "sequence", "branches"], indirect=True)
def test_a_whole_run_follows_the_device(case):
    """Three of the networks: what a step does with the gradients, which are compared above for all, does not depend on the layer."""
    case.host.revert()
    losses = case.host.train()
    learned = adapt(
        case.grid, case.x, case.y, plan=case.plan, iterations=ITERATIONS, learning_rate=RATE, shifts=SHIFTS, head="prototypes"
    )
    assert len(losses) == len(learned.losses) == ITERATIONS
    assert losses[0] == pytest.approx(learned.losses[0], rel=1e-6)
    assert curve_difference(losses, learned.losses)[1] < 1e-4  # not one weight rounds otherwise
    assert np.array_equal(learned.predict(case.x), case.host.predict(case.x).argmax(axis=1))


def test_what_is_left_out_is_left_out_on_the_device_too(tmp_path):
    """Late prototypes and learned samples: the same losses as in Keras; then the iterations after a small loss."""
    case = Case("pooled", tmp_path / "bundle")
    options = {"late_prototypes": True, "skip_loss": 1.2, "iterations": 8, "learning_rate": 0.03}
    learned = adapt(case.grid, case.x, case.y, plan=case.plan, shifts=SHIFTS, head="prototypes", **options)
    stop_loss = float(np.mean(learned.losses[:2]))
    count = next(i for i, loss in enumerate(learned.losses) if loss < stop_loss) + 1
    for stop, expected in ((0.0, learned.losses), (stop_loss, learned.losses[:count])):
        host = HostRuntime(case.bundle, settings={**options, "stop_loss": stop})
        host.add_samples(case.x, case.y)
        losses = host.train()
        assert len(losses) == len(expected) and curve_difference(losses, expected)[1] < 1e-4
    assert count < 8
    ended = adapt(case.grid, case.x, case.y, plan=case.plan, shifts=SHIFTS, head="prototypes", stop_loss=stop_loss, **options)
    assert ended.losses == learned.losses[:count]
    for each in ({"late_prototypes": False}, {"skip_loss": 0}):
        other = adapt(case.grid, case.x, case.y, plan=case.plan, shifts=SHIFTS, head="prototypes", **{**options, **each})
        assert curve_difference(other.losses, learned.losses)[1] > 1e-3


def test_an_operator_that_is_not_known_is_named(tmp_path):
    image = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="first")(image)
    x = keras.layers.Subtract(name="difference")([x, keras.layers.Conv2D(4, 1, name="gate")(x)])
    model = keras.Model(image, keras.layers.Dense(5, name="embedding")(keras.layers.GlobalAveragePooling2D(name="pool")(x)))
    plan = plan_of(embedding=(0, 1))
    bundle = export_tflm(
        model, plan, calibration=images(model, 8), out=tmp_path / "difference", weights_in_ram="whole", head="prototypes"
    )
    with pytest.raises(ValueError, match="SUB of layer 'difference' is not known on the grid"):
        on_grid_model(model, bundle)
