"""Heads as models have them, on the device: one sigmoid unit as two logits, convolutions in front of a softmax."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_tinytrain import LayerPlan, Plan
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.export import Candidates, TrainingSettings, export_tflm
from keras_tinytrain.export.head import head_on_device
from keras_tinytrain.model import canonical_form, layer_table
from keras_tinytrain.model.ending import ending
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.dequantise import dequantised_model

HEADS = {
    "dense sigmoid": lambda: (layers.GlobalAveragePooling2D(), layers.Dense(1, activation="sigmoid", name="head")),
    "one logit": lambda: (layers.GlobalAveragePooling2D(), layers.Dense(1, use_bias=False, name="head")),
    "MobileNet, sigmoid": lambda: (
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Conv2D(1, 1, name="head"),
        layers.Reshape((1,)),
        layers.Activation("sigmoid"),
    ),
    "MobileNet": lambda: (
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Dropout(0.2),
        layers.Conv2D(2, 1, name="head"),
        layers.Reshape((2,)),
        layers.Activation("softmax"),
    ),
    "MobileNet of Keras 2": lambda: (
        layers.AveragePooling2D(5),
        layers.Conv2D(2, 1, name="head"),
        layers.Softmax(),
        layers.Flatten(),
    ),
    "SqueezeNet": lambda: (
        layers.Conv2D(2, 1, activation="relu", bias_initializer="ones", name="head"),
        layers.GlobalAveragePooling2D(),
        layers.Softmax(),
    ),
}


def net(head):
    """A convolution and a head whose logits reach far enough for int8 to show what training changes."""
    keras.utils.set_random_seed(0)
    stem = layers.Conv2D(8, 3, strides=2, activation="relu")
    model = keras.Sequential([keras.Input((12, 12, 3)), stem, *HEADS[head]()])
    model.get_layer("head").kernel.assign(4 * model.get_layer("head").kernel)
    return model


def task(count=12):
    """Bright and dark images."""
    y = np.arange(count) % 2
    return np.random.default_rng(0).random((count, 12, 12, 3), np.float32) * (0.3 + 0.7 * y)[:, None, None, None], y


def whole(model):
    units = model.get_layer("head").output.shape[-1]
    return Plan((LayerPlan("head", tuple(range(units))),))


@pytest.fixture(scope="module", params=HEADS)
def exported(request, tmp_path_factory):
    model, (x, _) = net(request.param), task()
    training = TrainingSettings("sgd", learning_rate=0.5, iterations=30, max_samples=12, num_classes=2)
    out = tmp_path_factory.mktemp("heads") / "net"
    return model, export_tflm(model, whole(model), calibration=x, out=out, head="auto", training=training)


def probability(model, x):
    """Of class 1, float32 (N,)."""
    outputs = np.asarray(model(x))[:, -1]
    return outputs if ending(model) else 1 / (1 + np.exp(-outputs))


@pytest.mark.parametrize("end", ["MobileNet", "MobileNet, sigmoid"])
def test_callbacks_plan_of_a_classifier_is_exported_as_it_is(end, tmp_path):
    """A plan without a device's settings, and nobody names the head."""
    model, training = net(end), TrainingSettings(num_classes=2)
    bundle = export_tflm(model, whole(model), calibration=task()[0], out=tmp_path / "net", training=training)
    assert bundle.manifest["head"] == "softmax"


def test_device_gives_the_model_s_probabilities_and_learns(exported):
    model, bundle = exported
    (x, y), host = task(), HostRuntime(bundle)
    logits = host.predict(x)
    np.testing.assert_allclose(1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), probability(model, x), atol=0.02)
    host.add_samples(x, y)
    losses = host.train()
    assert losses[-1] < 0.95 * losses[0]
    if model.output_shape == (None, 1):
        np.testing.assert_array_equal(host.predict(x)[:, 0], logits[:, 0])  # the constant one


def test_device_takes_no_more_than_the_plan_s_estimate(exported):
    model, bundle = exported
    accounting = DeviceAccounting("sgd", num_samples=12, num_classes=2)
    estimate = accounting.memory_bytes(layer_table(canonical_form(model)), {"head": model.get_layer("head").output.shape[-1]})
    assert bundle.promised_bytes["sram"]["total"] <= estimate


@pytest.mark.parametrize("exported", ["dense sigmoid", "SqueezeNet"], indirect=True)
def test_keras_model_of_a_bundle_gives_its_logits(exported):
    model, bundle = exported
    x, _ = task()
    np.testing.assert_allclose(dequantised_model(model, bundle)(x), HostRuntime(bundle).predict(x), atol=0.05)


def test_sigmoid_unit_is_trained_as_keras_trains_it(tmp_path):
    """One step of gradient descent on binary cross-entropy: the change of the logit, up to int8."""
    model, (x, y) = net("dense sigmoid"), task()
    training = TrainingSettings("sgd", learning_rate=2.0, iterations=1, max_samples=12, num_classes=2)
    bundle = export_tflm(model, whole(model), calibration=x, out=tmp_path / "net", head="sigmoid", training=training)
    host = HostRuntime(bundle)
    before = host.predict(x)
    host.add_samples(x, y)
    host.train()
    features = keras.Model(model.inputs, model.layers[-2].output)(x).numpy()
    error = (np.asarray(model(x))[:, 0] - y) / len(y)
    expected = -2.0 * (features @ (features.T @ error) + error.sum())
    change = host.predict(x) - before
    np.testing.assert_array_equal(change[:, 0], 0)
    np.testing.assert_allclose(change[:, 1], expected, atol=0.1 * np.abs(expected).max())


def test_plan_and_candidates_of_a_sigmoid_unit():
    model = net("dense sigmoid")
    logits, plan, head = head_on_device(model, whole(model), "auto")
    assert (logits.output_shape, plan["head"].channels, head) == ((None, 2), (1,), "softmax")
    candidates = Candidates()
    assert head_on_device(model, candidates, "sigmoid")[1] is candidates


def test_sigmoid_after_a_sum_names_the_remedy():
    x = keras.Input((4,))
    model = keras.Model(x, layers.Activation("sigmoid")(layers.Dense(1)(x) + layers.Dense(1)(x)))
    with pytest.raises(ValueError, match=r"no Dense layer .* end it in Dense\(2, activation='softmax'\)"):
        head_on_device(model, Plan(()), "auto")


def test_other_number_of_classes_is_refused_before_anything_is_converted(tmp_path):
    model = net("MobileNet")
    with pytest.raises(ValueError, match="softmax over 2 classes, but the samples have 5"):
        export_tflm(model, whole(model), out=tmp_path / "net", head="auto", training=TrainingSettings(num_classes=5))


@pytest.mark.parametrize("last", [layers.UnitNormalization(), keras.ops.normalize], ids=["layer", "operation"])
def test_normalised_embedding_is_exported_without_its_normalisation(last):
    x = image = keras.Input((6, 6, 2))
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Conv2D(4, 1, name="conv")(x))
    exported, _, kind = head_on_device(keras.Model(image, last(x)), Plan((LayerPlan("conv", (0,)),)), "prototypes")
    assert (kind, exported.layers[-1].name) == ("prototypes", "pool")
