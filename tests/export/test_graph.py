"""The trainable part is read as it is and keeps exactly what the backward pass reads; what cannot be trained is named."""

import keras
import numpy as np
import pytest
from keras import layers
from models import images, pooled_net, tiny_net

from keras_tinytrain.choose.backward_pass import planes_at_once
from keras_tinytrain.export.backward.graph import STORED_SAMPLE, read_trainable
from keras_tinytrain.export.backward.operators import NONE
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.convert import convert_int8
from keras_tinytrain.export.tflite.cut import cut_model
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.tflm_runtime.rounding import align


class Exported:
    """A canonical model and its int8 conversion, made once."""

    def __init__(self, model):
        self.model = fold_batch_norm(model)
        self.whole = convert_int8(self.model, images(self.model, 8))

    def cut(self, *names, channels=(0, 1)):
        plan = Plan(tuple(LayerPlan(name, channels) for name in names))
        frozen, trainable, operators = cut_model(self.whole, self.model, plan)
        return frozen, *read_trainable(trainable, operators, plan)


@pytest.fixture(scope="module")
def tiny():
    return Exported(tiny_net())


@pytest.fixture(scope="module")
def pooled():
    return Exported(pooled_net())


def kept_layers(graph):
    """Short names of the tensors that are outputs beside the head."""
    return [t.name.split(";")[0] for t in graph.tensors if t.kept > 0]


def test_layers_are_read_in_order_with_shapes_and_pads(tiny):
    _, _, graph = tiny.cut("b1_expand")
    rows = [(l.op, l.activation, l.kernel_size, l.strides, l.pads) for l in graph.layers]
    assert rows == [
        ("kConv2D", "kRelu6", (1, 1), (1, 1), (0, 0)),
        ("kDepthwiseConv2D", "kRelu6", (3, 3), (1, 1), (1, 1)),
        ("kConv2D", "kLinear", (1, 1), (1, 1), (0, 0)),
        ("kAdd", "kLinear", (1, 1), (1, 1), (0, 0)),
        ("kConv2D", "kRelu6", (1, 1), (1, 1), (0, 0)),
        ("kDepthwiseConv2D", "kRelu", (4, 4), (2, 2), (1, 1)),  # 3 x 3 and its ZeroPadding2D(1), see pads.py
        ("kConv2D", "kLinear", (1, 1), (1, 1), (0, 0)),
        ("kConv2D", "kRelu", (3, 3), (1, 1), (1, 1)),
        ("kAdd", "kRelu", (1, 1), (1, 1), (0, 0)),
        ("kAveragePool2D", "kLinear", (3, 3), (1, 1), (0, 0)),  # the global mean
        ("kDense", "kLinear", (1, 1), (1, 1), (0, 0)),
    ]
    assert [(t.height, t.width, t.channels) for t in graph.tensors[:6]] == [(6, 6, n) for n in (8, 16, 16, 8, 8, 16)]
    assert graph.tensors[-1].size == 5


def test_trained_kernel_keeps_its_size_and_takes_over_the_pads(tiny):
    _, trainable, graph = tiny.cut("b2_depthwise")
    (layer,) = [layer for layer in graph.layers if layer.op == "kDepthwiseConv2D"]
    assert (layer.kernel_size, layer.strides, layer.pads) == ((3, 3), (2, 2), (1, 1))
    assert graph.tensors[layer.input].size == 6 * 6 * 16  # not the padded copy
    assert layer.input == 0 and graph.tensors[0].kept == STORED_SAMPLE
    assert "PAD" in fb.operator_names(trainable)


def test_pooling_relu_flatten_and_dense(pooled):
    frozen, _, graph = pooled.cut("first")
    assert frozen is None
    assert [(l.op, l.activation, l.kernel_size, l.strides, l.pads) for l in graph.layers] == [
        ("kConv2D", "kRelu", (3, 3), (1, 1), (0, 0)),
        ("kAveragePool2D", "kLinear", (2, 2), (2, 2), (0, 0)),
        ("kConv2D", "kLinear", (3, 2), (1, 2), (1, 0)),
        ("kAveragePool2D", "kRelu", (3, 3), (2, 2), (1, 1)),  # the converter fuses the ReLU after it
        ("kReshape", "kLinear", (1, 1), (1, 1), (0, 0)),
        ("kDense", "kRelu", (1, 1), (1, 1), (0, 0)),
        ("kDense", "kLinear", (1, 1), (1, 1), (0, 0)),
    ]


def test_relu_that_cannot_be_fused_is_a_layer():
    image = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 1, name="conv")(image)
    x = layers.Add(name="add")([x, layers.ReLU(6.0, name="relu")(x)])
    _, _, graph = Exported(keras.Model(image, layers.Flatten(name="flat")(x))).cut("conv")
    assert [(l.name, l.op, l.activation, l.accumulate_input) for l in graph.layers] == [
        ("conv", "kConv2D", "kLinear", False),
        ("relu", "kActivation", "kRelu6", True),  # the addition wrote d_input first
        ("add", "kAdd", "kLinear", False),
        ("flat", "kReshape", "kLinear", False),
    ]
    assert graph.gradient_bytes == 2 * align(4 * 4 * 4 * 3)  # all but one arm of the addition in place


def test_kernels_are_the_keras_kernels_in_the_headers_layout(tiny):
    _, _, graph = tiny.cut("b1_expand", "b1_depthwise", "b3_conv", "logits")
    for trained, order in zip(graph.trained, [(3, 0, 1, 2), (0, 1, 2, 3), (3, 0, 1, 2), (1, 0)], strict=True):
        layer = graph.layers[trained.layer]
        kernel = np.asarray(tiny.model.get_layer(trained.name).kernel).transpose(order)
        scales = layer.kernel_scales.reshape(-1, *[1] * (kernel.ndim - 1)) if order[0] else layer.kernel_scales[:, None]
        assert np.all(np.abs(layer.kernel.reshape(kernel.shape) * scales - kernel) <= 0.501 * scales)
        bias = np.asarray(tiny.model.get_layer(trained.name).bias)
        bias_scales = layer.kernel_scales.astype(float) * graph.tensors[layer.input].scale
        assert np.all(np.abs(layer.bias * bias_scales - bias) <= 0.501 * bias_scales)


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["logits"], []),
        (["b3_conv"], ["b3_conv.activation", "b3_relu"]),
        (["b2_project"], ["b3_conv.activation", "b3_relu"]),
        (["b2_expand"], ["b2_relu", "b2_relu_2", "b3_conv.activation", "b3_relu"]),
        (["b1_project"], ["b1_depthwise.activation", "b2_relu", "b2_relu_2", "b3_conv.activation", "b3_relu"]),
        (["b2_project", "logits"], ["b3_conv.activation", "b3_relu", "pool"]),
        (["b2_project", "b3_conv"], ["b2_project", "b3_conv.activation", "b3_relu"]),
    ],
)
def test_kept_is_exactly_what_the_backward_pass_reads(tiny, names, kept):
    _, trainable, graph = tiny.cut(*names)
    assert kept_layers(graph) == kept
    model = fb.read_model(trainable)
    outputs = [int(tensor) for tensor in model.subgraphs[0].outputs]
    assert len(outputs) == graph.num_outputs == 1 + len(kept)
    for tensor in graph.tensors:
        if tensor.kept >= 0:
            (scale,), (zero_point,) = fb.quantisation(model, outputs[tensor.kept])
            assert (scale, zero_point) == (tensor.scale, tensor.zero_point)
            assert tensor.name == fb.tensor_name(model, outputs[tensor.kept])
    assert graph.tensors[0].kept == STORED_SAMPLE
    assert graph.tensors[-1].kept == graph.head_output == 0


def test_weight_tensors_are_those_of_the_file(tiny):
    _, trainable, graph = tiny.cut("b1_project", "logits")
    model = fb.read_model(trainable)
    for layer in graph.layers:
        if layer.kernel is not None:
            np.testing.assert_array_equal(fb.constant(model, layer.kernel_tensor).flatten(), layer.kernel.flatten())
            np.testing.assert_array_equal(fb.constant(model, layer.bias_tensor), layer.bias)


def test_gradients_flow_only_where_they_are_needed(tiny):
    _, _, graph = tiny.cut("b1_project")
    without = [t.name.split(";")[1] for t in graph.tensors if t.gradient_offset == NONE]
    assert without == ["stem", "b1_depthwise"]  # of the frozen part, only the input of a trained layer is read
    add = graph.layers[1]
    assert graph.tensors[add.output].gradient_offset == graph.tensors[add.input2].gradient_offset  # in place


def test_residual_gradients_accumulate_once(tiny):
    _, _, graph = tiny.cut("b2_project")
    flags = {l.name: (l.accumulate_input, l.accumulate_input2) for l in graph.layers}
    assert flags["b3_conv.activation"] == (True, False)  # the addition wrote d_input first
    assert not any(first or second for name, (first, second) in flags.items() if name != "b3_conv.activation")


INTERIORS = {"b1_expand", "b1_depthwise", "b2_relu", "b2_relu_2"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("b1_expand",), INTERIORS),
        (("b1_depthwise",), INTERIORS - {"b1_expand"}),  # nothing flows into what it reads
        (("b1_project",), {"b2_relu", "b2_relu_2"}),
        (("b2_project",), set()),
    ],
)
def test_bottleneck_interior_goes_by_channel(tiny, names, expected):
    _, _, graph = tiny.cut(*names)
    assert {t.name.split(";")[0].split(".")[0] for t in graph.tensors if t.num_planes} == expected
    assert (graph.gradient_bytes < graph.gradient_bytes_whole) == bool(expected)


def test_channels_of_an_interior_that_go_at_a_time(tiny):
    _, _, graph = tiny.cut("b1_expand")
    interiors = [(layer.op, graph.tensors[layer.output]) for layer in graph.layers if graph.tensors[layer.output].num_planes]
    assert {(op, t.num_planes) for op, t in interiors} == {
        ("kDepthwiseConv2D", 1),
        *(("kConv2D", planes_at_once((t.height, t.width, t.channels))) for op, t in interiors if op == "kConv2D"),
    }


@pytest.mark.parametrize(
    ("shape", "expected"), [((8, 8, 192), 16), ((16, 16, 96), 4), ((40, 40, 96), 1), ((3, 3, 8), 2), ((4, 4, 2), 1)]
)
def test_planes_take_four_kilobytes_at_most_and_a_quarter(shape, expected):
    assert planes_at_once(shape) == expected


def test_interior_that_something_else_reads_is_whole():
    image = keras.Input((6, 6, 4))
    wide = layers.Conv2D(8, 1, activation="relu", name="expand")(image)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(wide)
    x = layers.Conv2D(8, 1, name="project")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, wide]))
    _, _, graph = Exported(keras.Model(image, x)).cut("expand")
    assert not any(t.num_planes for t in graph.tensors)


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


def test_plan_is_checked(tiny):
    with pytest.raises(ValueError, match="no layer 'nowhere'"):
        tiny.cut("nowhere")
    with pytest.raises(ValueError, match="channel 8 of layer 'b1_project', which has 8"):
        tiny.cut("b1_project", channels=(0, 8))
    with pytest.raises(ValueError, match="'b1_add' is a Add; layers that can be trained: Conv2D"):
        tiny.cut("b1_add")
    with pytest.raises(ValueError, match="trains no layer"):
        tiny.cut()
