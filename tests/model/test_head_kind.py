"""head_kind: found from the graph, checked against the task; one sentence where they do not go together."""

import keras
import numpy as np
import pytest
from keras import layers
from models import embedding_net, tiny_net

import keras_tinytrain
from keras_tinytrain.model.ending import backbone_of, backbone_text, without_ending
from keras_tinytrain.model.head_kind import head_kind
from keras_tinytrain.model.two_logits import int8_shift, two_logits


def chain(*following, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *following])


def pooled(*following):
    return chain(layers.Conv2D(4, 3, name="conv"), layers.GlobalAveragePooling2D(name="pool"), *following)


def map_of(*following):
    return chain(layers.Conv2D(4, 3, name="conv"), *following)


SQUEEZENET = (layers.Conv2D(3, 1, activation="relu", name="last"), layers.GlobalAveragePooling2D(), layers.Softmax())


@pytest.mark.parametrize(
    "model, num_classes, kind",
    [
        (pooled(layers.Dense(3, activation="softmax")), 3, "softmax"),
        (pooled(layers.Dense(3), layers.Softmax(), layers.Reshape((3,))), 3, "softmax"),
        (map_of(*SQUEEZENET), 3, "softmax"),
        (chain(layers.Conv2D(4, 8), layers.Conv2D(3, 1), layers.Flatten(), layers.Activation("softmax")), 3, "softmax"),
        (pooled(layers.Dense(1, activation="sigmoid")), 2, "sigmoid"),
        (pooled(layers.Dense(1)), 2, "sigmoid"),
        (pooled(layers.Dense(3)), 3, "logits"),
        (pooled(layers.Dense(3)), 2, "prototypes"),
        (pooled(layers.Dense(3)), None, "prototypes"),
        (pooled(), 4, "prototypes"),
        (embedding_net(), 12, "prototypes"),
        (chain(pooled(layers.Dense(5)), chain(layers.Dense(3, activation="softmax"), shape=(5,))), 3, "softmax"),
    ],
)
def test_kind_is_found_from_the_graph(model, num_classes, kind):
    assert head_kind(model, num_classes) == kind
    assert head_kind(model, num_classes, kind) == kind


def test_softmax_written_as_an_operation_is_found():
    x = keras.Input((4,))
    assert head_kind(keras.Model(x, keras.ops.softmax(layers.Dense(3)(x))), 3) == "softmax"


def test_logits_may_be_called_a_softmax_or_an_embedding():
    assert head_kind(tiny_net(), 5, "softmax") == "softmax"
    assert head_kind(tiny_net(), 5, "prototypes") == "prototypes"


@pytest.mark.parametrize(
    "model, num_classes, head, message",
    [
        (
            pooled(layers.Dense(12, activation="softmax")),
            3,
            "auto",
            r"softmax over 12 classes, but .* 3\. .*get_layer\('pool'\)",
        ),
        (pooled(layers.Dense(3, activation="softmax")), 5, "softmax", "softmax over 3 classes, but the samples have 5"),
        (pooled(layers.Dense(1, activation="softmax")), 2, "auto", "softmax over 1 classes, but the samples have 2"),
        (pooled(layers.Dense(3, activation="softmax")), 3, "prototypes", "ends in a softmax, but head='prototypes' takes emb"),
        (pooled(layers.Dense(3, activation="softmax")), 3, "logits", "ends in a softmax: it has head='softmax'"),
        (pooled(layers.Dense(3, activation="softmax")), 3, "sigmoid", "ends in a softmax: it has head='softmax'"),
        (
            pooled(layers.Dense(1, activation="sigmoid")),
            3,
            "auto",
            r"one sigmoid unit, .* have 3 classes. End it in Dense\(3, act",
        ),
        (pooled(layers.Dense(1, activation="sigmoid")), 2, "prototypes", "gives one number, .*head='sigmoid'"),
        (pooled(layers.Dense(3, activation="sigmoid")), 3, "auto", "ends in 3 units, each a label of its own"),
        (pooled(layers.Dense(3)), 4, "logits", "logits of 3 classes, but the samples have 4"),
        (pooled(), 4, "linear", "head expects one of prototypes, softmax, sigmoid, logits, auto. Received: 'linear'"),
        (
            map_of(),
            4,
            "auto",
            r"is a map of shape \(6, 6, 4\); expected one vector .*GlobalAveragePooling2D\(\)\(model.output\)",
        ),
        (map_of(layers.AveragePooling2D(6)), 4, "auto", r"shape \(1, 1, 4\); .*Flatten\(\)\(model.output\)"),
        (map_of(layers.Conv2D(3, 1, activation="softmax")), 3, "softmax", "is a map"),
        (chain(layers.LSTM(4, return_sequences=True), layers.Dense(3), shape=(5, 2)), 3, "auto", r"sequence of shape \(5, 3\)"),
    ],
)
def test_output_that_does_not_suit_the_task_is_refused(model, num_classes, head, message):
    with pytest.raises(ValueError, match=message):
        head_kind(model, num_classes, head)


def test_encoder_of_an_autoencoder_is_named_and_is_taken():
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(2, 3, strides=4, padding="same", name="narrow")(image)
    model = keras.Model(image, layers.UpSampling2D(4)(layers.Conv2D(1, 1, name="wide")(layers.UpSampling2D(1)(x))), name="net")
    with pytest.raises(
        ValueError, match=r"gives back the shape of its input, \(8, 8, 1\).*Pass its encoder: (.*)\."
    ) as refused:
        head_kind(model, 3)
    code = str(refused.value).split("Pass its encoder: ")[1].rstrip(".")
    assert head_kind(eval(code, {"keras": keras, "model": model}), 3) == "prototypes"


def test_model_of_two_outputs_is_refused():
    x = keras.Input((4,))
    with pytest.raises(ValueError, match="has 2 outputs"):
        head_kind(keras.Model(x, [layers.Dense(3)(x), layers.Dense(2)(x)]), 3)


def test_embedding_of_many_sigmoid_units_is_taken_where_it_is_called_one():
    assert head_kind(pooled(layers.Dense(16, activation="sigmoid")), None, "prototypes") == "prototypes"


@pytest.mark.parametrize(
    "model",
    [
        pooled(layers.Dense(12, activation="softmax")),
        map_of(*SQUEEZENET),
        map_of(layers.AveragePooling2D(6), layers.Conv2D(3, 1), layers.Flatten(), layers.Softmax()),
        chain(map_of(layers.ReLU(name="relu")), layers.GlobalAveragePooling2D(), layers.Dense(3), layers.Softmax()),
        chain(pooled(layers.Dense(3, activation="softmax"))),
    ],
)
def test_text_of_the_remedy_makes_a_backbone(model):
    *first, last = backbone_text(model).split("; ")
    names = {"keras": keras, "model": model, "keras_tinytrain": keras_tinytrain}
    exec("; ".join([*first, f"backbone = {last}"]), names)  # noqa: S102 (our own text, which a user would paste)
    backbone = names["backbone"]
    assert backbone.output_shape == (None, 4) and head_kind(backbone, 3) == "prototypes"
    x = np.random.default_rng(0).random((5, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(backbone_of(model)(x), backbone(x))


def test_model_that_has_no_head_is_a_backbone_already():
    with pytest.raises(ValueError, match="ends in no classifier's head: .* It is a backbone as it is."):
        backbone_of(pooled())


def test_model_without_its_ending_gives_logits():
    x = np.random.default_rng(0).random((5, 8, 8, 3), np.float32)
    model = pooled(layers.Dense(3), layers.Softmax(), layers.Reshape((3,)))
    np.testing.assert_allclose(keras.ops.softmax(without_ending(model)(x)), model(x), rtol=1e-6)
    assert without_ending(pooled()).output_shape == (None, 4)


@pytest.mark.parametrize(
    "model",
    [
        pooled(layers.Dense(1, name="head")),
        pooled(layers.Dense(1, use_bias=False, name="head")),
        map_of(layers.AveragePooling2D(6), layers.Conv2D(1, 1, name="head"), layers.Reshape((1,))),
        map_of(layers.Conv2D(1, 1, name="head"), layers.GlobalAveragePooling2D()),
    ],
)
def test_one_logit_becomes_two_of_the_same_probability(model):
    x = np.random.default_rng(0).random((5, 8, 8, 3), np.float32)
    both = keras.ops.convert_to_numpy(two_logits(model, "head")(x))
    np.testing.assert_array_equal(both[:, 0], 0)
    np.testing.assert_allclose(both[:, 1:], model(x), rtol=1e-6, atol=1e-7)


def test_logit_of_one_sign_is_given_room_for_the_other():
    x = np.random.default_rng(0).random((5, 8, 8, 3), np.float32)
    model = pooled(layers.Dense(1, name="head", bias_initializer=keras.initializers.Constant(-9.0)))
    shift = int8_shift(model, "head", x)
    both = keras.ops.convert_to_numpy(two_logits(model, "head", shift)(x))
    assert shift == np.asarray(model(x)).min() < 0
    np.testing.assert_allclose(both[:, 1:] - both[:, :1], model(x), rtol=1e-5)
    assert int8_shift(pooled(layers.Dense(1, name="head")), "head", np.concatenate([x, -x])) == 0
    assert int8_shift(map_of(layers.Conv2D(1, 1, name="head"), layers.ReLU(), layers.GlobalAveragePooling2D()), "head", x) == 0
