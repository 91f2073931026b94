"""The trainable part is read as it is and keeps exactly what the backward pass reads; what cannot be trained is named."""

import keras
import numpy as np
import pytest
from keras import layers
from models import pooled_net, tiny_net

from keras_tinytrain.choose.backward_pass import planes_at_once
from keras_tinytrain.export.backward.graph import STORED_SAMPLE
from keras_tinytrain.export.backward.operators import NONE
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.tflm_runtime.rounding import align
from tests.export.exported import Exported, kept_layers


@pytest.fixture(scope="module")
def tiny():
    return Exported(tiny_net())


@pytest.fixture(scope="module")
def pooled():
    return Exported(pooled_net())


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


def test_plan_is_checked(tiny):
    with pytest.raises(ValueError, match="no layer 'nowhere'"):
        tiny.cut("nowhere")
    with pytest.raises(ValueError, match="channel 8 of layer 'b1_project', which has 8"):
        tiny.cut("b1_project", channels=(0, 8))
    with pytest.raises(ValueError, match="'b1_add' is a Add; layers that can be trained: Conv2D"):
        tiny.cut("b1_add")
    with pytest.raises(ValueError, match="trains no layer"):
        tiny.cut()
