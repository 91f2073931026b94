"""What each kind of Keras layer becomes in the graph of the trainable part, and which have no backward pass."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_tinytrain.tflm_runtime.rounding import align
from tests.export.exported import Exported, kept_layers


def test_adding_a_tensor_to_itself_accumulates():
    image = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 1, name="conv")(image)
    x = layers.Conv2D(3, 1, name="after")(layers.Add(name="twice")([x, x]))
    _, _, graph = Exported(keras.Model(image, layers.Flatten()(x))).cut("conv")
    twice = next(layer for layer in graph.layers if layer.op == "kAdd")
    assert (twice.accumulate_input, twice.accumulate_input2) == (False, True)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda x: layers.Subtract(name="culprit")([x, layers.ReLU(6.0)(x)]), "SUB of layer 'culprit'"),
        (lambda x: layers.Multiply(name="culprit")([x, layers.Conv2D(1, 1)(x)]), "'culprit' multiplies shapes"),
        (
            lambda x: keras.ops.concatenate([x, layers.ReLU(6.0)(x), x], axis=-1),
            "concatenates 3 tensors on axis -1",
        ),
        (
            lambda x: layers.Concatenate(1, name="culprit")([x, layers.ReLU(6.0)(x)]),
            "'culprit' concatenates 2 tensors on axis 1",
        ),
        (lambda x: layers.PReLU("uniform", name="culprit")(x), "'culprit' has a slope of its own at every position"),
        (
            lambda x: layers.PReLU(keras.initializers.RandomUniform(-1, -0.5), shared_axes=[1, 2], name="culprit")(x),
            "'culprit' has slopes below 0",
        ),
        (lambda x: layers.DepthwiseConv2D(3, depth_multiplier=2, name="culprit")(x), "'culprit' has groups or a depth mult"),
        (lambda x: layers.Conv2D(4, 3, dilation_rate=2, name="culprit")(x), "'culprit' is dilated"),
    ],
)
def test_what_cannot_go_backwards_is_named(build, message):
    image = keras.Input((8, 8, 2))
    x = build(layers.Conv2D(4, 1, name="trained")(image))
    x = layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x))
    exported = Exported(keras.Model(image, x))
    with pytest.raises(ValueError, match=message):
        exported.cut("trained")
    exported.cut("head")  # after it, nothing is wrong


def test_concatenating_three_tensors_is_concatenating_two_twice():
    image = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 1, name="trained")(image)
    x = layers.GlobalAveragePooling2D()(layers.Concatenate(name="join")([x, layers.ReLU(6.0)(x), x]))
    _, _, graph = Exported(keras.Model(image, layers.Dense(3, name="head")(x))).cut("trained")
    joins = {layer.name: layer for layer in graph.layers if layer.op == "kConcatenate"}
    assert [graph.tensors[joins[name].output].channels for name in ("join.1", "join")] == [8, 12]
    assert joins["join"].input == joins["join.1"].output and joins["join"].input2 == joins["join.1"].input
    assert joins["join.1"].accumulate_input and not joins["join"].accumulate_input2  # what is read last is written first


@pytest.mark.parametrize("end", ["sigmoid", "tanh", "elu"])
def test_concatenate_reads_what_has_a_grid_of_its_own(end):
    image = keras.Input((8, 8, 2))
    sides = [layers.Conv2D(4, 1, activation=name, name=name)(image) for name in ("relu", end)]
    x = layers.GlobalAveragePooling2D()(layers.Concatenate(name="join")(sides))
    _, _, graph = Exported(keras.Model(image, layers.Dense(3, name="head")(x))).cut("relu", end)
    (join,) = (layer for layer in graph.layers if layer.op == "kConcatenate")
    assert len({graph.tensors[tensor].scale for tensor in (*join.inputs, join.output)}) == 1
    assert {layer.name for layer in graph.layers if layer.kernel is not None} == {"relu", end, "head"}


def test_dense_layer_along_an_axis():
    image = keras.Input((6, 6, 2))
    x = layers.Dense(4, activation="relu", name="trained")(layers.Reshape((36, 2))(image))
    x = layers.Dense(3, name="along")(layers.Reshape((6, 6, 4), name="map")(x))
    _, _, graph = Exported(keras.Model(image, layers.Flatten(name="flat")(x))).cut("trained")
    assert [layer.op for layer in graph.layers if layer.kernel is not None] == ["kDenseAlong", "kDenseAlong"]
    assert [tensor.size // tensor.channels for tensor in graph.tensors[:-1]] == [36] * (len(graph.tensors) - 1)


def test_squeeze_and_excite():
    image = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 1, activation="relu", name="trained")(image)
    gate = layers.Conv2D(4, 1, activation="sigmoid", name="gate")(layers.GlobalAveragePooling2D(keepdims=True, name="mean")(x))
    x = layers.Activation("silu", name="silu")(layers.Multiply(name="excite")([x, gate]))
    _, _, graph = Exported(keras.Model(image, layers.Flatten(name="flat")(x))).cut("trained")
    assert [(layer.name, layer.op) for layer in graph.layers] == [
        ("trained", "kConv2D"),
        ("mean", "kAveragePool2D"),
        ("gate", "kConv2D"),
        ("gate.activation", "kLogistic"),
        ("excite", "kMultiply"),
        ("silu.sigmoid", "kLogistic"),
        ("silu", "kMultiply"),
        ("flat", "kReshape"),
    ]
    # Factors of both products, and what the sigmoids' derivatives read: their outputs.
    assert kept_layers(graph) == ["trained.activation", "gate.activation", "excite", "silu.sigmoid"]


@pytest.mark.parametrize("join", [layers.Add, layers.Concatenate])
def test_normalisation_before_an_activation_is_a_depthwise_convolution(join):
    image = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 1, name="trained")(image)
    x = join(name="join")([x, layers.ReLU(name="branch")(x)])
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    model = keras.Model(image, layers.Flatten(name="flat")(layers.Conv2D(3, 3, padding="same", name="conv")(x)))
    rng = np.random.default_rng(4)
    norm = model.get_layer("norm")
    norm.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in norm.get_weights()])
    exported = Exported(model)
    _, _, graph = exported.cut("trained")
    (found,) = (layer for layer in graph.layers if layer.op == "kDepthwiseConv2D")
    assert found.activation == "kRelu" and found.kernel_size == (1, 1)
    assert not {layer.op for layer in graph.layers} & {"kMultiply", "kScale"}


def test_max_pooling_and_padding():
    image = keras.Input((9, 9, 2))
    x = layers.MaxPooling2D(2, padding="same", name="max")(layers.Conv2D(4, 1, activation="relu", name="trained")(image))
    x = layers.AveragePooling2D(3, strides=1, name="average")(layers.ZeroPadding2D(((1, 0), (2, 1)), name="pad")(x))
    x = layers.Conv2D(3, 3, name="conv")(layers.ZeroPadding2D(3, name="wide")(x))
    x = layers.Flatten(name="flat")(layers.GlobalMaxPooling2D(keepdims=True, name="top")(x))
    _, _, graph = Exported(keras.Model(image, x)).cut("trained")
    assert [(l.name, l.op, l.kernel_size, l.strides, l.pads) for l in graph.layers] == [
        ("trained", "kConv2D", (1, 1), (1, 1), (0, 0)),
        ("max", "kMaxPool2D", (2, 2), (2, 2), (0, 0)),
        ("pad", "kPad", (1, 1), (1, 1), (1, 2)),
        ("average", "kAveragePool2D", (3, 3), (1, 1), (0, 0)),
        ("wide", "kPad", (1, 1), (1, 1), (3, 3)),  # as wide as the kernel: the convolution cannot take it over
        ("conv", "kConv2D", (3, 3), (1, 1), (0, 0)),
        ("top", "kMaxPool2D", (8, 10), (1, 1), (0, 0)),
        ("flat", "kReshape", (1, 1), (1, 1), (0, 0)),
    ]
    assert kept_layers(graph) == ["trained.activation", "conv"]  # what max pooling reads; the first holds the ReLU's mask, too


def test_leaky_relu():
    image = keras.Input((6, 6, 2))
    x = layers.LeakyReLU(0.3, name="leaky")(layers.Conv2D(4, 1, name="trained")(image))
    x = layers.Conv2D(3, 1, activation="leaky_relu", name="conv")(x)
    _, _, graph = Exported(keras.Model(image, layers.Flatten(name="flat")(x))).cut("trained")
    assert [(l.name, l.op, l.activation, l.slope) for l in graph.layers] == [
        ("trained", "kConv2D", "kLinear", 0.0),
        ("leaky", "kLeakyRelu", "kLinear", pytest.approx(0.3)),
        ("conv", "kConv2D", "kLinear", 0.0),
        ("conv.activation", "kLeakyRelu", "kLinear", pytest.approx(0.2)),
        ("flat", "kReshape", "kLinear", 0.0),
    ]
    assert kept_layers(graph) == ["leaky", "conv.activation"]  # their outputs tell which half the gradient goes through
    assert graph.gradient_bytes == align(4 * 6 * 6 * 4) + align(4 * 6 * 6 * 3)  # LeakyReLU in place
