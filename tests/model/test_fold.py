"""fold_batch_norm: the same outputs, without the norms that can be folded exactly and with those that cannot."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_tinytrain.model.fold import canonical_form, fold_batch_norm
from keras_tinytrain.model.graph import walk
from keras_tinytrain.model.layers import layer_table

SHAPE = (7, 7, 6)


def with_statistics(model, seed=0):
    """Random norms and biases, so that a mistake shows."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, layers.BatchNormalization):
            for variable, (low, high) in zip(layer.weights, ((0.5, 2), (-1, 1), (-1, 1), (0.2, 3)), strict=True):
                variable.assign(rng.uniform(low, high, variable.shape))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(size=layer.bias.shape))
    return model


def sequential(*parts):
    return with_statistics(keras.Sequential([keras.Input(SHAPE), *parts]))


def norm_names(model):
    return [layer.name for layer in model.layers if isinstance(layer, layers.BatchNormalization)]


def assert_same_outputs(model, folded, tolerance=1e-5):
    x = np.random.default_rng(1).normal(size=(4, *model.input_shape[1:]))
    expected, received = np.asarray(model(x)), np.asarray(folded(x))
    assert np.abs(received - expected).max() <= tolerance * np.abs(expected).max()


FOLDED = {
    "dropout_between": lambda: sequential(
        layers.Conv2D(5, 3),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(4, activation="relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.5),
        layers.Dense(3),
    ),
    "dropout_before_the_norm": lambda: sequential(
        layers.Conv2D(5, 3), layers.SpatialDropout2D(0.5), layers.BatchNormalization()
    ),
    "behind_conv": lambda: sequential(layers.Conv2D(5, 3, strides=2, padding="same"), layers.BatchNormalization()),
    "behind_conv_without_bias": lambda: sequential(layers.Conv2D(5, 3, use_bias=False), layers.BatchNormalization()),
    "behind_depthwise": lambda: sequential(layers.DepthwiseConv2D(3, padding="same"), layers.BatchNormalization()),
    "behind_multiplier": lambda: sequential(layers.DepthwiseConv2D(3, depth_multiplier=2), layers.BatchNormalization()),
    "behind_grouped": lambda: sequential(layers.Conv2D(4, 3, groups=2, padding="same"), layers.BatchNormalization()),
    "behind_dense": lambda: sequential(layers.Flatten(), layers.Dense(5), layers.BatchNormalization()),
    "before_conv": lambda: sequential(layers.BatchNormalization(), layers.Conv2D(5, 3)),
    "before_pointwise": lambda: sequential(layers.BatchNormalization(), layers.Conv2D(5, 1, padding="same", use_bias=False)),
    "before_depthwise": lambda: sequential(layers.BatchNormalization(), layers.DepthwiseConv2D(3, depth_multiplier=2)),
    "before_dense": lambda: sequential(layers.Flatten(), layers.BatchNormalization(), layers.Dense(5)),
    "on_both_sides": lambda: sequential(layers.BatchNormalization(), layers.Conv2D(5, 3), layers.BatchNormalization()),
    "between_two": lambda: sequential(layers.Conv2D(5, 3), layers.BatchNormalization(), layers.Conv2D(4, 3)),
    "fused_activation_behind": lambda: sequential(layers.BatchNormalization(), layers.Conv2D(5, 1, activation="relu6")),
}


SEQUENCES = {
    "conv": lambda: [layers.Conv1D(5, 3, strides=2, padding="same", activation="relu"), layers.BatchNormalization(axis=2)],
    "norm": lambda: [layers.Conv1D(5, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU(), layers.Flatten()],
    "causal": lambda: [layers.Conv1D(5, 3, padding="causal", dilation_rate=2), layers.SpatialDropout1D(0.1)],
    "depthwise": lambda: [layers.ZeroPadding1D((1, 2)), layers.DepthwiseConv1D(3, strides=2, depth_multiplier=2)],
    "pools": lambda: [
        layers.MaxPooling1D(2, padding="same"),
        layers.AveragePooling1D(3, strides=2),
        layers.GlobalMaxPooling1D(),
    ],
    "mean": lambda: [layers.Conv1D(4, 1), layers.GlobalAveragePooling1D(keepdims=True), layers.Dense(3)],
    "recurrent": lambda: [layers.Conv1D(4, 3), layers.LSTM(3, return_sequences=True), layers.Conv1D(2, 2)],
    "separable": lambda: [layers.SeparableConv1D(4, 3, padding="same"), layers.BatchNormalization(), layers.Flatten()],
    "permuted": lambda: [layers.Conv1D(4, 3), layers.Permute((2, 1)), layers.Dense(3), layers.PReLU()],
}


@pytest.mark.parametrize("case", SEQUENCES)
def test_layers_over_sequences_are_those_over_images_of_height_1(case):
    model = with_statistics(keras.Sequential([keras.Input((14, 4)), *SEQUENCES[case]()]))
    folded = fold_batch_norm(model)
    assert_same_outputs(model, folded)
    assert folded.output_shape == model.output_shape
    assert not any("1D" in type(layer).__name__ for layer in folded.layers)


@pytest.mark.parametrize(
    "layer",
    [
        layers.SeparableConv2D(5, 3, strides=2, padding="same", depth_multiplier=2, activation="relu", name="sep"),
        layers.SeparableConv2D(5, 3, use_bias=False, name="sep"),
        layers.SeparableConv2D(5, (3, 1), dilation_rate=2, name="sep"),
    ],
)
def test_separable_convolution_is_its_two_convolutions(layer):
    model = sequential(layer, layers.BatchNormalization())
    folded = fold_batch_norm(model)
    assert_same_outputs(model, folded)
    assert [layer.name for layer in folded.layers][1:3] == ["sep.depthwise", "sep.pointwise"]


def test_branches_over_sequences_stay_images():
    x = image = keras.Input((12, 4))
    x = layers.Conv1D(6, 3, padding="same", name="first")(x)
    y = layers.Conv1D(6, 1, name="second")(x)
    x = layers.Concatenate(axis=2)([layers.Add()([x, y]), layers.Multiply()([y, x])])
    model = with_statistics(keras.Model(image, layers.Concatenate()([layers.GlobalMaxPooling1D()(x), layers.Flatten()(image)])))
    folded = fold_batch_norm(model)
    assert_same_outputs(model, folded)
    assert [layer.name for layer in folded.layers if isinstance(layer, layers.Reshape)] == ["first.image"]
    assert np.array_equal(folded.get_layer("second").kernel[0], model.get_layer("second").kernel)


@pytest.mark.parametrize("case", FOLDED)
def test_norm_is_folded(case):
    model = FOLDED[case]()
    before = model.get_weights()
    folded = fold_batch_norm(model)
    assert_same_outputs(model, folded)
    assert norm_names(folded) == []
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def shared_reader():
    image = keras.Input(SHAPE)
    x = layers.Conv2D(6, 1, name="conv")(image)
    return with_statistics(keras.Model(image, layers.Add()([x, layers.BatchNormalization(name="norm")(x)])))


def norm_with_two_readers():
    image = keras.Input(SHAPE)
    x = layers.BatchNormalization(name="norm")(image)
    return with_statistics(keras.Model(image, layers.Add()([layers.Conv2D(6, 1)(x), x])))


LEFT = {
    "activation_between": lambda: sequential(layers.Conv2D(5, 3, activation="relu"), layers.BatchNormalization(name="norm")),
    "zero_padding_behind": lambda: sequential(layers.BatchNormalization(name="norm"), layers.Conv2D(5, 3, padding="same")),
    "pad_behind": lambda: sequential(layers.BatchNormalization(name="norm"), layers.ZeroPadding2D(1), layers.Conv2D(5, 3)),
    "before_grouped": lambda: sequential(layers.BatchNormalization(name="norm"), layers.Conv2D(4, 3, groups=2)),
    "other_axis": lambda: sequential(layers.Conv2D(7, 1), layers.BatchNormalization(axis=1, name="norm")),
    "shared_reader": shared_reader,
    "two_readers": norm_with_two_readers,
    "alone": lambda: sequential(layers.BatchNormalization(name="norm"), layers.ReLU()),
}


@pytest.mark.parametrize("case", LEFT)
def test_norm_that_cannot_be_folded_exactly_is_left(case):
    model = LEFT[case]()
    folded = fold_batch_norm(model)
    assert_same_outputs(model, folded)
    assert norm_names(folded) == ["norm"]


def test_fused_activations_become_layers():
    model = keras.Sequential([keras.Input(SHAPE)])
    for activation in ("relu", "relu6", "sigmoid", None):
        model.add(layers.Conv2D(6, 3, padding="same", activation=activation, name=str(activation)))
    folded = fold_batch_norm(model)
    assert_same_outputs(model, folded)
    names = ["relu", "relu.activation", "relu6", "relu6.activation", "sigmoid", "sigmoid.activation", "None"]
    assert [layer.name for layer in folded.layers][1:] == names
    assert folded.get_layer("relu6.activation").max_value == 6


def test_nested_model_is_dissolved():
    inner = with_statistics(keras.Sequential([keras.Input(SHAPE), layers.Conv2D(6, 1), layers.BatchNormalization()]))
    model = keras.Sequential([keras.Input(SHAPE), inner, layers.Conv2D(2, 1, name="last")])
    folded = fold_batch_norm(model)
    assert_same_outputs(model, folded)
    assert norm_names(folded) == []
    assert [node.name for node in folded.layers][-1] == "last"


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


# (application, blocks of its table, norms that no convolution can take: those of DenseNet stand between concatenation and ReLU)
APPLICATIONS = [
    ("MobileNet", 14, 0, {"alpha": 0.25}),
    ("MobileNetV2", 19, 0, {"alpha": 0.35}),
    ("MobileNetV3Small", 13, 0, {}),
    ("EfficientNetV2B0", 23, 0, {}),
    ("ResNet50", 17, 0, {}),
    ("DenseNet121", 5, 62, {}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_blocks", "num_left", "options"), APPLICATIONS)
def test_networks_of_keras_applications_are_folded(float64, name, num_blocks, num_left, options):
    """In float64, so that what is left of the difference is the fold's and not fifty layers of float32.

    Four images leave variances near 0 in the last blocks, and dividing by them turns the last digit into 1e-9 of the output.
    """
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(32, 32, 3), include_top=False, **options)
    for layer in model.layers:
        layer.momentum = 0.0  # one training pass sets the statistics, so that activations stay in range
    model(np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)), training=True)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(layer.moving_variance + 0.1)
    folded = fold_batch_norm(model)
    assert_same_outputs(model, folded, tolerance=1e-12)
    assert len(norm_names(folded)) == num_left
    table = layer_table(folded)
    assert len({row.block for row in table if row.has_channels}) == num_blocks
    assert [row.name for row in table if row.has_channels and not row.trainable] == []


def test_canonical_form_copies_only_what_it_must():
    plain = sequential(layers.Conv2D(5, 3, name="conv"), layers.ReLU())
    assert canonical_form(plain).get_layer("conv") is plain.get_layer("conv")
    for model in (sequential(layers.Conv2D(5, 3, activation="relu", name="conv")), FOLDED["behind_conv"]()):
        canonical = canonical_form(model)
        assert_same_outputs(model, canonical)
        assert canonical.layers[1] is not model.layers[0]


def test_layers_that_do_nothing_outside_training_are_left_out():
    class Noise(layers.Layer):
        def call(self, x, training=False):
            return x + keras.random.normal(keras.ops.shape(x)) if training else x

    idle = [layers.RandomFlip(), layers.RandomContrast(0.2), layers.GaussianNoise(0.1), Noise()]
    kept = [layers.Rescaling(2.0, -1.0), layers.CenterCrop(6, 6), layers.Conv2D(4, 3), layers.Dropout(0.2), layers.Flatten()]
    model = keras.Sequential([keras.Input((8, 8, 3)), *idle, *kept])
    folded = canonical_form(model)
    assert [type(layer) for layer in folded.layers[1:]] == [type(layer) for layer in kept]
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3))
    np.testing.assert_allclose(folded(x, training=False), model(x, training=False), atol=1e-5)


def test_mixed_precision_is_computed_in_float32():
    steps = [layers.Conv2D(4, 3, dtype="mixed_float16"), layers.BatchNormalization(dtype="mixed_float16"), layers.Flatten()]
    model = keras.Sequential([keras.Input((8, 8, 3)), *steps])
    folded = fold_batch_norm(model)
    assert {layer.compute_dtype for layer in folded.layers} == {"float32"}
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3))
    np.testing.assert_allclose(folded(x), model(x), atol=1e-2)


def test_an_adapted_normalization_is_copied_with_its_statistics():
    norm = layers.Normalization()
    norm.adapt(np.random.default_rng(0).normal(5, 3, (20, 8, 8, 3)))
    model = keras.Sequential([keras.Input((8, 8, 3)), norm, layers.Conv2D(4, 3, activation="relu")])
    assert_same_outputs(model, fold_batch_norm(model))


def test_code_of_the_users_own_is_folded_where_it_need_not_be_copied():
    regulariser = type(
        "Own", (keras.regularizers.Regularizer,), {"__call__": lambda self, x: 0.0, "get_config": lambda self: {}}
    )
    steps = [layers.Lambda(lambda x: 2 * x), layers.Conv2D(4, 3, activation=lambda x: x * x, kernel_regularizer=regulariser())]
    model = keras.Sequential([keras.Input((8, 8, 3)), *steps, layers.BatchNormalization()])
    assert_same_outputs(model, fold_batch_norm(model))


def test_a_layer_that_cannot_be_copied_is_named():
    class Own(layers.Layer):
        def __init__(self, units):
            super().__init__(name="mine")
            self.units = units

        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], self.units))

        def call(self, x):
            return x @ self.kernel

    model = keras.Sequential([keras.Input((4,)), Own(3), layers.Dense(2, activation="relu")])
    with pytest.raises(ValueError, match=r"Layer 'mine', a Own, cannot be copied by its get_config\(\)"):
        fold_batch_norm(model)


class Jitter(layers.Layer):
    """A layer of a user's, random by default as Keras' RandomCrop is; outside training it halves."""

    def call(self, inputs, training=True):
        return inputs * keras.random.uniform((), 0.0, 1.0) if training else inputs / 2


@pytest.mark.parametrize("make", [canonical_form, fold_batch_norm])
def test_layers_that_are_random_by_default_are_not_random_in_it(make):
    model = keras.Sequential([keras.Input((4,)), Jitter(), layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert np.array_equal(make(model)(x), model(x, training=False))
    assert not np.array_equal(model(x), model(x))


def test_layers_that_join_many_tensors_join_two_at_a_time():
    x = image = keras.Input((6, 6, 3))
    for number, layer in enumerate((layers.Add(name="sum"), layers.Multiply(name="product"), layers.Concatenate(name="join"))):
        x = layer([x, *[layers.Conv2D(3, 1)(x) for _ in range(1 + number)]])
    model = keras.Model(image, x)
    folded = canonical_form(model)
    joins = [node.layer.name for node in walk(folded) if len(node.inputs) > 1]
    assert joins == ["sum", "product.1", "product", "join.1", "join.2", "join"]
    assert all(len(node.inputs) <= 2 for node in walk(folded))
    assert_same_outputs(model, folded)
