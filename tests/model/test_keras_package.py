"""Models of tf_keras: their twin, and training of chosen channels in them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from models import batch

from keras_tinytrain import Budget, Delta, LayerPlan, Plan, TinyTrainCallback
from keras_tinytrain.model.keras_package import copy_weights, twin

tf_keras = pytest.importorskip("tf_keras", reason="pip install keras-tinytrain[tfmot]")
LAYERS = tf_keras.layers
PLAN = Plan((LayerPlan("project", (1, 4)), LayerPlan("depthwise", (0, 2, 5)), LayerPlan("logits", (2,))))


def old_net(*, optimizer=None, **options):
    """The net of `models.small_net` in tf_keras, a model inside a model."""
    tf_keras.utils.set_random_seed(0)
    image = tf_keras.Input((8, 8, 3))
    x = LAYERS.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(image)
    x = LAYERS.BatchNormalization(name="norm")(x)
    x = LAYERS.ReLU(6.0, name="relu")(x)
    x = LAYERS.Conv2D(6, 1, name="project", kernel_regularizer=tf_keras.regularizers.L2(0.1))(x)
    x = LAYERS.DepthwiseConv2D(3, name="depthwise")(x)
    body = tf_keras.Model(image, LAYERS.GlobalAveragePooling2D(name="pool")(x))
    model = tf_keras.Sequential([tf_keras.Input((8, 8, 3)), body, LAYERS.Dense(3, name="logits")])
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer or tf_keras.optimizers.Adam(0.05), loss=loss, metrics=["accuracy"], **options)
    return model


def masks(model):
    """One boolean array a weight, True where PLAN trains."""
    chosen = {weight.name: np.zeros(weight.shape, bool) for weight in model.weights}
    for weight in model.weights:
        layer, kind = weight.name.split("/")[-2], weight.name.split("/")[-1]
        if layer in [part.name for part in PLAN.layers]:
            axis = -2 if kind == "depthwise_kernel:0" else -1
            np.moveaxis(chosen[weight.name], axis, 0)[list(PLAN[layer].channels)] = True
    return list(chosen.values())


def masked_net(optimizer):
    """`old_net` whose own train_step zeroes the gradients of what PLAN does not train."""
    plain = old_net()

    class Masked(tf_keras.Model):
        def train_step(self, data):
            x, y, sample_weight = tf_keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True), sample_weight)
            by_name = dict(zip([weight.name for weight in self.weights], masks(self)))
            gradients = tape.gradient(loss, self.trainable_variables)
            pairs = [(gradient * by_name[v.name], v) for gradient, v in zip(gradients, self.trainable_variables)]
            self.optimizer.apply_gradients(pairs)
            return {"loss": loss}

    model = Masked(plain.inputs, plain.outputs)
    for layer in model._flatten_layers(include_self=False):
        layer.trainable = not isinstance(layer, LAYERS.BatchNormalization)
    model.compile(optimizer=optimizer, loss=plain.loss)
    return model


def test_twin_answers_alike_and_weights_go_both_ways():
    model = old_net()
    other = twin(model)
    assert isinstance(other, keras.Sequential)
    x = batch()[0]
    np.testing.assert_allclose(other(x), model(x), rtol=0, atol=1e-6)
    kernel = other.get_layer("logits").kernel.numpy() + 1
    other.get_layer("logits").kernel.assign(kernel)
    copy_weights(other, model)
    assert np.array_equal(model.get_layer("logits").kernel, kernel)


def everyday_models():
    """{what is peculiar: a model of (N, 8, 8, 3)}."""
    image = tf_keras.Input((8, 8, 3))
    base = tf_keras.Sequential([LAYERS.InputLayer((8, 8, 3)), LAYERS.Conv2D(4, 3)])
    base = tf_keras.Model(base.input, base.output)
    base.trainable = False
    half = tf_keras.Sequential([LAYERS.InputLayer((8, 8, 3)), LAYERS.Conv2D(4, 3, dtype="mixed_float16")])
    outputs = {
        "training=False": base(image, training=False),
        "preprocess_input": base(tf_keras.applications.resnet50.preprocess_input(image)),
        "arithmetic": base(2.0 * image - 1.0),
        "mixed precision": half(image),
    }
    models = {name: tf_keras.Model(image, LAYERS.Dense(3, dtype="float32")(output)) for name, output in outputs.items()}
    ends = [LAYERS.GlobalAveragePooling2D(), LAYERS.Dense(3)]
    return {"input_shape": tf_keras.Sequential([LAYERS.Conv2D(4, 3, input_shape=(8, 8, 3)), *ends]), **models}


def test_everyday_models_have_a_twin():
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    for name, model in everyday_models().items():
        tolerance = 1e-2 if name == "mixed precision" else 1e-5
        np.testing.assert_allclose(twin(model)(x), model(x), atol=tolerance, rtol=tolerance, err_msg=name)


def test_a_sequential_of_tf_keras_without_input_is_built_by_the_first_batch():
    model = tf_keras.Sequential([LAYERS.Conv2D(4, 3, activation="relu"), LAYERS.GlobalAveragePooling2D(), LAYERS.Dense(3)])
    model.compile("adam", tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tiny = TinyTrainCallback(Budget(memory="64KB", compute=0.5), kinds="all", verbose=0)
    model.fit(*batch(), callbacks=[tiny], verbose=0)
    assert tiny.plan.layers


def test_model_without_twin_is_named():
    image = tf_keras.Input((8,))
    with pytest.raises(ValueError, match="has no twin in Keras 3"):
        twin(tf_keras.Model(image, tf.math.sin(image)))


@pytest.mark.parametrize("options", [{"steps_per_execution": 2}, {"run_eagerly": True}], ids=["graph", "eager"])
def test_chosen_channels_alone_move_and_as_under_hand_masked_gradients(options):
    def optimizer():
        return tf_keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=0.0, clipnorm=0.5)

    model, masked = old_net(optimizer=optimizer(), **options), masked_net(optimizer())
    before = [weight.numpy() for weight in model.weights]
    x, y = batch(count=32)
    fit = {"batch_size": 8, "epochs": 2, "shuffle": False, "class_weight": {0: 2.0, 1: 0.5, 2: 1.0}, "verbose": 0}
    model.fit(x, y, callbacks=[TinyTrainCallback(plan=PLAN, verbose=0)], **fit)
    masked.fit(x, y, **fit)
    for ours, expected, first, mask in zip(model.weights, masked.weights, before, masks(model), strict=True):
        assert np.array_equal(ours.numpy()[~mask], first[~mask]), ours.name
        np.testing.assert_allclose(ours.numpy()[mask], expected.numpy()[mask], rtol=0, atol=1e-6, err_msg=ours.name)


def test_callback_chooses_trains_logs_and_gives_back_a_tf_keras_model(tmp_path):
    model = old_net()
    optimizer, norm = model.optimizer, model.layers[0].get_layer("norm")
    tiny = TinyTrainCallback(Budget(memory="64KB", compute=0.3), verbose=0)
    beside = [
        tf_keras.callbacks.EarlyStopping(monitor="val_loss", patience=1, restore_best_weights=True),
        tf_keras.callbacks.TensorBoard(tmp_path),
        tf_keras.callbacks.LearningRateScheduler(lambda epoch: 0.05 / (epoch + 1)),
    ]
    data = tf.data.Dataset.from_tensor_slices(batch(count=32)).batch(16)
    history = model.fit(data, epochs=4, validation_data=batch(seed=5), callbacks=[*beside[:1], tiny, *beside[1:]], verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert tiny.plan.strategy == "fisher" and list((tmp_path / "train").glob("*.tinytrain"))
    assert model.optimizer is optimizer and norm.trainable
    fresh = old_net()
    other = twin(fresh)
    Delta.from_bytes(tiny.delta.to_bytes()).apply(other)
    copy_weights(other, fresh)
    assert all(np.array_equal(a, b) for a, b in zip(fresh.weights, model.weights))
    stem = model.layers[0].get_layer("stem").kernel.numpy()
    model.fit(data, verbose=0)
    assert not np.array_equal(stem, model.layers[0].get_layer("stem").kernel)


@pytest.mark.parametrize(
    ("options", "beside", "message"),
    [
        ({"cache_frozen": True}, [], "cache_frozen needs a Keras 3 model"),
        ({}, [tf_keras.callbacks.BackupAndRestore("backup")], "BackupAndRestore does not go with"),
    ],
)
def test_options_without_support_in_tf_keras_are_refused(options, beside, message):
    with pytest.raises(ValueError, match=message):
        old_net().fit(*batch(), callbacks=[TinyTrainCallback(plan=PLAN, verbose=0, **options), *beside], verbose=0)
