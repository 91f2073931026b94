"""The exported .tflite files are stock: every interpreter computes the same bits, and the two parts are the whole."""

import flatbuffers
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from models import images, tiny_net

from keras_tinytrain.export.backward.graph import read_trainable
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.arena import new_interpreter, smallest_arena
from keras_tinytrain.export.tflite.checks import check_scales
from keras_tinytrain.export.tflite.convert import convert_int8
from keras_tinytrain.export.tflite.cut import cut_model, find_trained
from keras_tinytrain.export.tflite.layer_names import layers_in
from keras_tinytrain.model.ending import without_ending
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.plan import LayerPlan, Plan

PLAN = Plan((LayerPlan("b1_project", (1, 3)), LayerPlan("b2_depthwise", (0, 5)), LayerPlan("logits", (0, 1, 2, 3, 4))))


@pytest.fixture(scope="module")
def net():
    return fold_batch_norm(tiny_net())


@pytest.fixture(scope="module")
def whole(net):
    return convert_int8(net, images(net, 20))


@pytest.fixture(scope="module")
def parts(net, whole):
    frozen, trainable, operators = cut_model(whole, net, PLAN)
    return frozen, read_trainable(trainable, operators, PLAN)[0]


def run_lite(package, model_bytes, inputs):
    """Outputs of one of the tf.lite-like interpreters with reference kernels, one list per input."""
    resolver = package.OpResolverType.BUILTIN_REF
    interpreter = package.Interpreter(model_content=model_bytes, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    (entry,), results = interpreter.get_input_details(), []
    for x in inputs:
        interpreter.set_tensor(entry["index"], x.reshape(entry["shape"]))
        interpreter.invoke()
        results.append([interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()])
    return results


def test_equal_vectors_are_written_once(parts, monkeypatch):
    """Most of what is shared are zero points: 8 bytes for each channel of each kernel and bias."""
    model = fb.read_model(parts[1])
    shared = fb.write_model(model)
    monkeypatch.setattr(fb, "_SharingBuilder", flatbuffers.Builder)
    apart = fb.write_model(fb.read_model(parts[1]))
    zero_points = [fb.quantisation(model, index)[1].nbytes for index in range(len(model.subgraphs[0].tensors))]
    assert len(shared) == len(parts[1]) <= len(apart) - 0.6 * sum(zero_points)
    assert fb.write_model(fb.read_model(shared)) == apart


def run_micro(model_bytes, inputs):
    interpreter = new_interpreter(model_bytes, smallest_arena(model_bytes))
    num_outputs, results = len(fb.read_model(model_bytes).subgraphs[0].outputs), []
    for x in inputs:
        interpreter.set_input(x.reshape(interpreter.get_input_details(0)["shape"]), 0)
        interpreter.invoke()
        results.append([interpreter.get_output(index) for index in range(num_outputs)])
    return results


def random_inputs(model_bytes, count=20):
    model = fb.read_model(model_bytes)
    shape = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].shape
    return np.random.default_rng(3).integers(-128, 128, (count, *shape), dtype=np.int8)


def assert_same(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("package", ["tflite_runtime.interpreter", "ai_edge_litert.interpreter", "tensorflow.lite"])
@pytest.mark.parametrize("part", [0, 1])
def test_every_interpreter_computes_the_same_bits(parts, part, package):
    if package == "tensorflow.lite":
        module = tf.lite
        module.OpResolverType = tf.lite.experimental.OpResolverType
    else:
        module = pytest.importorskip(package)
    inputs = random_inputs(parts[part])
    assert_same(run_lite(module, parts[part], inputs), run_micro(parts[part], inputs))


def test_the_two_parts_are_the_whole_model_bit_for_bit(whole, parts):
    inputs = random_inputs(whole)
    features = [outputs[0] for outputs in run_micro(parts[0], inputs)]
    heads = [outputs[:1] for outputs in run_micro(parts[1], features)]
    assert_same(heads, run_micro(whole, inputs))


def test_frozen_output_and_trainable_input_have_one_scale(parts):
    frozen, trainable = (fb.read_model(part) for part in parts)
    ours = fb.quantisation(frozen, frozen.subgraphs[0].outputs[0])
    theirs = fb.quantisation(trainable, trainable.subgraphs[0].inputs[0])
    np.testing.assert_array_equal(ours, theirs)


def test_int8_follows_the_float_model(net, whole):
    x = images(net, 16, seed=9)
    model = fb.read_model(whole)
    (scale,), (zero,) = fb.quantisation(model, model.subgraphs[0].inputs[0])
    (out_scale,), (out_zero,) = fb.quantisation(model, model.subgraphs[0].outputs[0])
    q = np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8)
    logits = out_scale * (np.concatenate([outputs[0] for outputs in run_micro(whole, q)]).astype(float) - out_zero)
    expected = net(x).numpy()
    assert np.abs(logits - expected).max() < 0.12 * np.abs(expected).max()


def test_conversion_is_static_per_channel_and_dense_per_tensor(whole):
    model = fb.read_model(whole)
    scales = {}
    for operator in model.subgraphs[0].operators:
        kind = fb.operator_name(model, operator)
        assert model.subgraphs[0].tensors[operator.outputs[0]].shape[0] == 1
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            scales.setdefault(kind, []).append(len(fb.quantisation(model, operator.inputs[1])[0]))
    assert scales == {"CONV_2D": [8, 16, 8, 16, 12, 12], "DEPTHWISE_CONV_2D": [16, 16], "FULLY_CONNECTED": [1]}


def test_constants_are_aligned_to_16_bytes(parts):
    for part in parts:
        model = fb.read_model(part)
        for index in range(len(model.subgraphs[0].tensors)):
            value = fb.constant(model, index)
            if value is not None:
                offset = fb.constant_offset(part, index)
                assert offset % 16 == 0
                assert part[offset : offset + value.nbytes] == value.tobytes()


def test_every_weighted_layer_is_found_by_its_weights(net, whole):
    weighted = [layer for layer in net.layers if layer.get_weights()]
    found = find_trained(fb.read_model(whole), net, Plan(tuple(LayerPlan(layer.name, (0,)) for layer in weighted)))
    assert list(found) == [layer.name for layer in weighted]
    assert sorted(set(found.values())) == list(found.values())


def test_layers_with_equal_weights_are_told_apart_by_name():
    image = keras.Input((6, 6, 2))
    x = layers.Conv2D(2, 1, name="one")(image)
    x = layers.Conv2D(2, 1, name="two")(layers.ReLU()(x))
    model = keras.Model(image, layers.Flatten()(x))
    model.get_layer("two").set_weights(model.get_layer("one").get_weights())
    whole = fb.read_model(convert_int8(model, images(model, 4)))
    assert find_trained(whole, model, Plan((LayerPlan("two", (0,)), LayerPlan("one", (0,))))) == {"one": 0, "two": 1}


@pytest.mark.parametrize("value", [0.0, 1e-41, np.inf, np.nan])
def test_degenerate_scale_is_refused_with_the_layer(whole, value):
    model = fb.read_model(whole)
    operator = model.subgraphs[0].operators[1]
    model.subgraphs[0].tensors[operator.outputs[0]].quantization.scale = np.array([value], np.float32)
    with pytest.raises(ValueError, match="'b1_expand.activation' cannot be quantised"):
        check_scales(fb.write_model(model))


def test_vanishing_activations_are_refused():
    model = keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2D(2, 1, name="vanishing"), layers.Conv2D(2, 1, name="b")])
    kernel, bias = model.get_layer("vanishing").get_weights()
    model.get_layer("vanishing").set_weights([kernel * 1e-12, bias])
    with pytest.raises(ValueError, match="'vanishing' cannot be quantised"):
        convert_int8(model, images(model, 4))


class Halving(layers.Layer):
    """A layer of one's own that counts."""

    def call(self, inputs):
        return tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, 0.5 * x), [tf.constant(0), inputs])[1]


@pytest.mark.parametrize(
    "layer", [layers.LSTM(4), layers.Bidirectional(layers.GRU(4)), layers.SimpleRNN(4), Halving()], ids=lambda layer: layer.name
)
def test_layer_that_computes_in_a_loop_is_named(layer):
    net = keras.Sequential([keras.Input((5, 3)), layer, layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ValueError, match=f"Layer '{layer.name}' computes in a loop.*unroll=True"):
        convert_int8(net, np.ones((2, *net.input_shape[1:]), np.float32))


@pytest.mark.parametrize("layer, operator", [(layers.UnitNormalization(), "SQUARE"), (layers.LayerNormalization(), "NEG")])
def test_layer_that_stays_in_float_is_named(layer, operator):
    net = keras.Sequential([keras.Input((4, 4, 3)), layers.Conv2D(2, 1), layer])
    with pytest.raises(ValueError, match=f"Layer '{layer.name}' needs {operator}, .* leaves in float32"):
        convert_int8(net, np.ones((2, *net.input_shape[1:]), np.float32))


def assert_computes_in_int8(model_bytes, net, *, num_steps):
    """Outputs of TensorFlow Lite Micro lie within so many steps of those of the Keras model."""
    model = fb.read_model(model_bytes)
    (scale,), (zero_point,) = fb.quantisation(model, model.subgraphs[0].outputs[0])
    (image_scale,), (image_zero_point,) = fb.quantisation(model, model.subgraphs[0].inputs[0])
    x = images(net, 8)
    inputs = np.clip(np.round(x / image_scale) + image_zero_point, -128, 127).astype(np.int8)
    for (output,), values in zip(run_micro(model_bytes, inputs), np.asarray(net(x)), strict=True):
        assert np.abs(scale * (output.astype(np.float32) - zero_point) - values).max() < num_steps * scale


def test_elu_is_computed_in_int8():
    net = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 1), layers.ELU(name="elu"), layers.Flatten(name="flat")])
    model_bytes = convert_int8(net, images(net, 8))
    assert fb.operator_names(model_bytes) == {"CONV_2D", "ELU", "RESHAPE"}
    assert_computes_in_int8(model_bytes, net, num_steps=3)


def test_layer_that_tflm_cannot_run_is_named():
    net = keras.Sequential([keras.Input((4, 4, 3)), layers.Conv2D(2, 1), layers.UpSampling2D(name="up"), layers.Flatten()])
    with pytest.raises(ValueError, match="Layer 'up' needs TILE, which TensorFlow Lite Micro cannot run"):
        smallest_arena(convert_int8(net, images(net, 2)))


def test_all_layers_that_stand_in_the_way_are_named():
    convolutions = [layers.Conv2D(2, 1, activation="gelu", name="first"), layers.Conv2D(2, 1, name="second")]
    norm = layers.LayerNormalization(axis=(1, 2, 3), name="norm")
    net = keras.Sequential(
        [keras.Input((4, 4, 3)), *convolutions, norm, layers.Activation("softplus", name="last"), layers.Flatten()]
    )
    words = "Layer 'norm' needs .*float32.*; layers 'first', 'last' need GELU, EXP, LOG, which TensorFlow Lite Micro cannot run"
    with pytest.raises(ValueError, match=words):
        convert_int8(net, images(net, 2))


def test_a_kernel_of_zeros_cannot_be_trained():
    image = keras.Input((4, 4, 2))
    model = keras.Model(image, layers.Conv2D(3, 1, name="zeros", bias_initializer="ones")(image))
    kernel, bias = model.get_layer("zeros").get_weights()
    kernel[..., 1] = 0
    model.get_layer("zeros").set_weights([kernel, bias])
    whole = fb.read_model(convert_int8(model, images(model, 4)))
    assert find_trained(whole, model, Plan((LayerPlan("zeros", (0, 1)),))) == {"zeros": 0}
    with pytest.raises(ValueError, match="layer 'zeros' are zero"):
        find_trained(whole, model, Plan((LayerPlan("zeros", (1,)),)))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((3, 5, 12, 3)), r"\(N, 12, 12, 3\)"),
        (np.zeros((0, 12, 12, 3)), "N >= 1"),
        (np.full((1, 12, 12, 3), np.nan), "finite"),
    ],
)
def test_calibration_samples_are_checked(net, samples, message):
    with pytest.raises(ValueError, match=message):
        convert_int8(net, samples)


def test_conversion_writes_nothing_to_the_terminal(net, capfd):
    convert_int8(net, images(net, 2))
    assert capfd.readouterr() == ("", "")


def test_softmax_at_the_end_is_left_away():
    image = keras.Input((4,))
    fused = fold_batch_norm(keras.Model(image, layers.Dense(3, activation="softmax", name="d")(image)))
    separate = keras.Model(image, layers.Softmax()(layers.Dense(3, name="d")(image)))
    for model in (fused, separate):
        x = np.ones((2, 4), np.float32)
        np.testing.assert_allclose(keras.ops.softmax(without_ending(model)(x)), model(x), rtol=1e-6)
    linear = keras.Model(image, layers.Dense(3)(image))
    assert without_ending(linear) is linear


def test_tensors_are_named_after_their_layers(whole):
    model = fb.read_model(whole)
    names = [fb.tensor_name(model, operator.outputs[0]) for operator in model.subgraphs[0].operators]
    assert names == [
        "stem.activation;stem",
        "b1_expand.activation;b1_expand",
        "b1_depthwise.activation;b1_depthwise",
        "b1_project",
        "b1_add",
        "b2_relu;b2_expand",
        "b2_pad",
        "b2_relu_2;b2_depthwise",
        "b2_project",
        "b3_conv.activation;b3_conv",
        "b3_relu;b3_add",
        "pool",
        "logits",
    ]


def test_layers_in_a_converters_name():
    names = ["conv", "conv_1"]
    assert layers_in("model_1/conv_1_1/Relu;model_1/conv_1/convolution", names) == ["conv_1", "conv"]
    assert layers_in("model_1/conv/BiasAdd", names) == ["conv"]
    assert layers_in("StatefulPartitionedCall_1:0", names) == []


def test_elu_that_is_concatenated_is_computed_in_int8():
    image = keras.Input((6, 6, 3))
    sides = [layers.Conv2D(4, 1, activation=end, name=end)(image) for end in ("relu", "elu")]
    net = fold_batch_norm(keras.Model(image, layers.Flatten()(layers.Concatenate()(sides))))
    model_bytes = convert_int8(net, images(net, 8))
    assert fb.operator_names(model_bytes) <= {"CONV_2D", "ELU", "CONCATENATION", "QUANTIZE", "RESHAPE"}
    assert_computes_in_int8(model_bytes, net, num_steps=4)
