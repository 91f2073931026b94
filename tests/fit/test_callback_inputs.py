"""What `TinyTrainCallback` takes of models, samples and plans, and what it refuses by name."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from callbacks import callback, compiled
from models import batch, small_net

from keras_tinytrain import Budget, LayerPlan, Plan, TinyTrainCallback


def test_budget_too_small_names_the_smallest_that_suffices():
    model = compiled()
    with pytest.raises(ValueError, match=r"The smallest that would do is Budget\(memory=\"(\d+)B\", compute=(\d+)\)") as raised:
        model.fit(*batch(), callbacks=[TinyTrainCallback(Budget(memory=100, compute=0.3))], verbose=0)
    memory, compute = re.search(r'memory="(\d+)B", compute=(\d+)', str(raised.value)).groups()
    tiny = TinyTrainCallback(Budget(f"{memory}B", int(compute)), verbose=0)
    model.fit(*batch(), callbacks=[tiny], verbose=0)
    assert tiny.plan.num_channels >= 1


def test_strategy_that_trains_nothing_is_named():
    with pytest.raises(ValueError, match="strategy 'none'.* trains nothing"):
        compiled().fit(*batch(), callbacks=[callback(strategy="none", head=None)], verbose=0)


def test_layers_that_the_user_froze_are_not_chosen():
    compiled().fit(*batch(), callbacks=[everything := callback(strategy="full")], verbose=0)
    frozen = everything.plan.layers[0].name
    model = compiled()
    model.get_layer(frozen).trainable = False
    model.fit(*batch(), callbacks=[rest := callback(strategy="full")], verbose=0)
    assert [layer.name for layer in rest.plan.layers] == [layer.name for layer in everything.plan.layers[1:]]
    with pytest.raises(ValueError, match=rf"trainable flag is False: \['{frozen}'\]"):
        model.fit(*batch(), callbacks=[callback(plan=everything.plan)], verbose=0)
    model.trainable = False
    with pytest.raises(ValueError, match=rf"has no trainable .*: '{frozen}' \(its trainable flag is False\), '"):
        model.fit(*batch(), callbacks=[callback()], verbose=0)


@pytest.mark.parametrize("wrap", [lambda x, y: ({"image": x}, y), lambda x, y: (x, {"out": y}), lambda x, y: (x,)])
def test_samples_and_labels_may_have_names_and_labels_may_be_missing(wrap):
    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.mean(keras.ops.square(y_pred))

    plain = small_net()
    image = keras.Input(plain.input_shape[1:], name="image")
    model = Own(image, plain(image))
    model.compile("sgd")
    model.fit(*wrap(*batch()), callbacks=[fitted := callback()], verbose=0)
    assert fitted.plan.layers


def test_several_inputs_or_outputs_are_refused():
    image = keras.Input((8, 8, 3))
    outputs = [keras.layers.Dense(2, name=name)(keras.layers.Flatten()(image)) for name in "ab"]
    model = keras.Model(image, outputs)
    model.compile("sgd", ["mse", "mse"])
    with pytest.raises(
        ValueError, match=r"one output. Received '.*' with 2: \['a', 'b'\]. Fit a part of it.*one of model.outputs"
    ):
        model.fit(np.zeros((4, 8, 8, 3)), [np.zeros((4, 2))] * 2, callbacks=[callback()], verbose=0)


def test_trained_weights_are_not_known_before_the_first_batch():
    with pytest.raises(ValueError, match="not known before the first batch"):
        callback().print_trainable_parameters()


def test_settings_that_would_go_wrong_silently_are_refused():
    class Own(keras.Model):
        def train_step(self, data):
            return {}

    plain = small_net()
    own = Own(plain.input, plain.output)
    own.compile("sgd", "mse")
    with pytest.raises(ValueError, match="has a train_step of its own"):
        own.fit(*batch(), callbacks=[callback()], verbose=0)
    averaged = compiled(keras.optimizers.SGD(0.1, use_ema=True))
    with pytest.raises(ValueError, match="SwapEMAWeights does not go with"):
        averaged.fit(*batch(), callbacks=[callback(), keras.callbacks.SwapEMAWeights()], verbose=0)


def dense_net(**options):
    layers = [keras.Input((8,)), keras.layers.Dense(6, name="hidden"), keras.layers.Dense(3, name="head", **options)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("change", "reason"),
    [(lambda layer: layer.enable_lora(2), "LoRA is enabled"), (lambda layer: layer.quantize("int8"), "int8")],
)
def test_layers_whose_kernel_is_no_variable_are_left_out_or_refused(change, reason):
    model, x = dense_net(), np.ones((8, 8), np.float32)
    change(model.get_layer("hidden"))
    model.fit(x, x[:, :3], callbacks=[tiny := callback()], verbose=0)
    assert [layer.name for layer in tiny.plan.layers] == ["head"]
    with pytest.raises(ValueError, match=rf"trains layer 'hidden', which cannot be trained here: .*{reason}"):
        model.fit(x, x[:, :3], callbacks=[callback(plan=Plan((LayerPlan("hidden", (0,)),)))], verbose=0)


def test_distribution_strategies_are_refused_unless_they_mean_one_device():
    x = np.ones((8, 8), np.float32)
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        model = dense_net()
    model.fit(x, x[:, :3], callbacks=[callback()], verbose=0)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = dense_net()
    with pytest.raises(ValueError, match=r"built under a MirroredStrategy.* outside of strategy.scope\(\)"):
        model.fit(x, x[:, :3], callbacks=[callback()], verbose=0)


def test_other_backends_are_named(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="Keras runs on torch. Set the environment variable KERAS_BACKEND=tensorflow"):
        compiled().fit(*batch(), callbacks=[callback()], verbose=0)


def test_subclassed_model_is_named_and_trains_a_given_plan():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.head = keras.layers.BatchNormalization(), keras.layers.Dense(3, name="head")

        def call(self, x, training=False):
            return self.head(self.inner(x, training=training))

    model, x = Own(), np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="a subclassed model whose layers cannot be seen"):
        model.fit(x, x[:, :3], callbacks=[callback()], verbose=0)
    before = model.get_weights()
    model.fit(x, x[:, :3], callbacks=[callback(plan=Plan((LayerPlan("head", (0,)),)))], verbose=0)
    assert [np.array_equal(a, b) for a, b in zip(before, model.get_weights())] == [True] * 4 + [False] * 2


def test_a_sequential_without_an_input_is_built_by_the_first_batch():
    layers = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*batch(), callbacks=[fitted := callback(kinds="all")], verbose=0)
    assert fitted.plan.layers and fitted.delta is not None


def test_several_inputs_are_named():
    inputs = [keras.Input((8, 8, 3), name="image"), keras.Input((8, 8, 3), name="depth")]
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Add()(inputs))))
    model.compile("sgd", "mse")
    x, y = batch()
    with pytest.raises(ValueError, match=r"one input. Received '.*' with 2: \['image', 'depth'\]"):
        model.fit([x, x], y, callbacks=[callback()], verbose=0)


def test_layers_of_one_name_in_nested_models_are_trained_apart():
    base = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1, name="same")], name="base")
    head = [keras.layers.Conv2D(4, 1, name="same"), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((8, 8, 3)), base, *head])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    plan = Plan((LayerPlan("base.same", (1,)),))
    before = [layer.get_weights()[0] for layer in (base.layers[0], head[0])]
    model.fit(*batch(), callbacks=[fitted := callback(plan=plan)], verbose=0)
    moved = [
        np.flatnonzero((layer.kernel.numpy() != old).any((0, 1, 2))) for layer, old in zip((base.layers[0], head[0]), before)
    ]
    assert [list(channels) for channels in moved] == [[1], []]
    fitted.delta.revert(model)
    assert np.array_equal(base.layers[0].kernel, before[0])


def test_activity_regularizers_of_an_earlier_call_do_not_reach_the_scores():
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(6, "relu", activity_regularizer=keras.regularizers.L1(1e-3))
    model = keras.Sequential([keras.Input((5,)), hidden, keras.layers.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = np.random.default_rng(0).random((12, 5), np.float32), np.arange(12) % 3
    for _ in range(2):
        model.fit(x, y, callbacks=[learned := callback()], verbose=0)
        assert learned.plan.num_channels
