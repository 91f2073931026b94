"""Reference gradients of a bundle's trained channels: TensorFlow's tape in float64 on the int8 model's own values."""

import importlib.util

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tinytrain.export.backward.graph import read_trainable
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.convert import convert_int8
from keras_tinytrain.export.tflite.cut import cut_model, find_trained
from keras_tinytrain.model.channels import kernel_channel_axis
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.model.graph import walk
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run.edge import INTERPRETERS

needs_interpreter = pytest.mark.skipif(
    not any(map(importlib.util.find_spec, INTERPRETERS)), reason="pip install keras-tinytrain[edge]"
)


def reference_gradients(case, host):
    """{layer: (d_kernel [channels][weights], d_bias [channels])} of the mean loss, by TensorFlow's tape in float64.

    The Keras graph is run from the features on, with the int8 model's own values: dequantised weights, and where the backward
    pass reads an activation (an output of trainable.tflite) the dequantised int8 value in place of the computed one. A ReLU's
    derivative is 1 where that value lies strictly between its clamps.
    """
    canonical = fold_batch_norm(case.model)
    whole = convert_int8(canonical, case.calibration)
    _, trainable, operators = cut_model(whole, canonical, case.plan)
    _, graph = read_trainable(trainable, operators, case.plan)
    weights = dequantised_weights(whole, canonical)
    values = {t.name.split(";")[0]: t for t in graph.tensors if t.kept >= 0}
    first = graph.tensors[0].name.split(";")[0]
    ways = case.y.max() + 1
    view = 1 if host.bundle.manifest["views"] else 0

    def embed(sample, stored_view):
        features = host.trainer.stored_sample(sample, stored_view)
        outputs = host._trainable(features)
        kept = {name: (t, outputs[t.kept].astype(np.float64)) for name, t in values.items()}
        return run_float64(canonical, first, real(graph.tensors[0], features.astype(np.float64)), weights, kept)

    own = np.stack([embed(i, 0) for i in range(len(case.y))])
    means = np.stack([own[case.y == k].mean(axis=0) for k in range(ways)])

    def prototypes(sample):
        """The means of the classes, `sample` itself left out of its own."""
        others = (case.y == case.y[sample]) & (np.arange(len(case.y)) != sample)
        return np.where((np.arange(ways) == case.y[sample])[:, None], own[others].mean(axis=0), means)

    with tf.GradientTape() as tape:
        tape.watch([tensor for name in operators for tensor in weights[name]])
        loss = tf.add_n([sample_loss(embed(i, view), prototypes(i), case.head, label) for i, label in enumerate(case.y)])
        loss /= len(case.y)
    gradients = tape.gradient(loss, {name: weights[name] for name in operators})
    return float(loss), {name: by_channel(canonical, name, case.plan, *gradients[name]) for name in operators}


def sample_loss(z, prototypes, head, label):
    logits = z
    if head == "prototypes":
        logits = 10.0 * tf.linalg.matvec(tf.linalg.l2_normalize(prototypes, axis=1), tf.linalg.l2_normalize(z))
    return -tf.nn.log_softmax(logits)[label]


def real(tensor, q):
    return tensor.scale * (q - tensor.zero_point)


def dequantised_weights(whole, model):
    """{layer: [kernel, bias]} as float64 tensors in Keras' layout."""
    weighted = [layer for layer in model.layers if hasattr(layer, "kernel")]
    parsed = fb.read_model(whole)
    found = find_trained(parsed, model, Plan(tuple(LayerPlan(layer.name, (0,)) for layer in weighted)))
    weights = {}
    for layer in weighted:
        operator = parsed.subgraphs[0].operators[found[layer.name]]
        kernel = fb.constant(parsed, operator.inputs[1]).astype(np.float64)
        scales = fb.quantisation(parsed, operator.inputs[1])[0].astype(np.float64)
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            kernel = np.moveaxis(kernel * scales, 0, 3)
        else:
            kernel = np.moveaxis(kernel * scales.reshape(-1, *[1] * (kernel.ndim - 1)), 0, -1)
        bias = np.zeros(kernel.shape[kernel_channel_axis(layer)]) if layer.bias is None else np.asarray(layer.bias, np.float64)
        weights[layer.name] = [tf.constant(kernel), tf.constant(bias)]
    for operator in (each for each in parsed.subgraphs[0].operators if fb.operator_name(parsed, each) == "PRELU"):
        (scale,), (zero_point,) = fb.quantisation(parsed, operator.inputs[1])
        slopes = np.float64(scale) * (fb.constant(parsed, operator.inputs[1]).astype(np.int64) - zero_point)
        weights[fb.tensor_name(parsed, operator.outputs[0])] = slopes
    return weights


def run_float64(model, first, features, weights, kept):
    """The flat output of the layers after layer `first`, given its output."""
    outputs, nodes = {}, walk(model)
    for index, node in enumerate(nodes):
        layer, name = node.layer, node.layer.name
        if name == first:
            outputs[index] = tf.constant(features.reshape(1, *node.output.shape[1:]))
        elif all(source in outputs for source in node.inputs) and node.inputs:
            of_inputs = [kept.get(nodes[source].layer.name) for source in node.inputs]
            value = call_float64(layer, [outputs[source] for source in node.inputs], weights, kept.get(name), of_inputs)
            if name in kept:
                known = tf.constant(real(*kept[name]).reshape(value.shape))
                value += tf.stop_gradient(known - value)
            outputs[index] = value
    return tf.reshape(outputs[max(outputs)], [-1])


def call_float64(layer, inputs, weights, kept, inputs_kept):
    x = inputs[0]
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        kernel, bias = weights[layer.name]
        return tf.nn.depthwise_conv2d(x, kernel, [1, *layer.strides, 1], layer.padding.upper()) + bias
    if isinstance(layer, keras.layers.Conv2D):
        kernel, bias = weights[layer.name]
        return tf.nn.conv2d(x, kernel, layer.strides, layer.padding.upper()) + bias
    if isinstance(layer, keras.layers.Dense):
        kernel, bias = weights[layer.name]
        return tf.linalg.matvec(kernel, x, transpose_a=True) + bias
    if isinstance(layer, keras.layers.Add):
        return inputs[0] + inputs[1]
    if isinstance(layer, keras.layers.Multiply):
        return inputs[0] * inputs[1]
    if isinstance(layer, keras.layers.Concatenate):
        return tf.concat(inputs, -1)
    if isinstance(layer, (keras.layers.Activation, keras.layers.PReLU, keras.layers.ELU)):
        return x * derivative(layer, kept, inputs_kept[0], x.shape, weights)
    if isinstance(layer, keras.layers.ReLU):
        return x * passes(layer, kept, x.shape)
    if isinstance(layer, keras.layers.LeakyReLU):
        return x * np.where(kept[1].reshape(x.shape) > kept[0].zero_point, 1, np.float64(np.float32(layer.negative_slope)))
    if isinstance(layer, keras.layers.AveragePooling2D):
        return tf.nn.avg_pool2d(x, layer.pool_size, layer.strides, layer.padding.upper())
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return tf.reduce_mean(x, axis=[1, 2], keepdims=layer.keepdims)
    if isinstance(layer, keras.layers.MaxPooling2D):
        return first_maxima(x, layer.pool_size, layer.strides, layer.padding.upper())
    if isinstance(layer, keras.layers.GlobalMaxPooling2D):
        return first_maxima(x, x.shape[1:3], (1, 1), "VALID")[:, 0, 0]
    if isinstance(layer, keras.layers.Reshape):
        return tf.reshape(x, [1, *layer.target_shape])
    if isinstance(layer, keras.layers.Flatten):
        return tf.reshape(x, [1, -1])
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return tf.pad(x, [[0, 0], *layer.padding, [0, 0]])
    assert isinstance(layer, keras.layers.Dropout)
    return x


def derivative(layer, kept, input_kept, shape, weights):
    """Of an activation, from the int8 values that the device keeps: those of its output, of hard swish its input."""
    name = getattr(getattr(layer, "activation", None), "__name__", type(layer).__name__)
    if name == "hard_silu":
        x = real(*input_kept).reshape(shape)
        return np.where(x <= -3, 0, np.where(x >= 3, 1, (2 * x + 3) / 6))
    y = real(*kept).reshape(shape)
    if name == "PReLU":
        return np.where(y > 0, 1, weights[layer.name])
    return {"sigmoid": y * (1 - y), "tanh": 1 - y**2, "elu": np.where(y > 0, 1, y + 1), "ELU": np.where(y > 0, 1, y + 1)}[name]


def first_maxima(x, size, strides, padding):
    """Max pooling whose gradient goes to the first of equal maxima: the windows' argmax is taken, then gathered."""
    flat = tf.reshape(x, [-1])
    at = tf.nn.max_pool_with_argmax(tf.cast(x, tf.float32), size, strides, padding, output_dtype=tf.int64).argmax
    return tf.gather(flat, at)


def passes(layer, kept, shape):
    """1 where a ReLU let its input through; anything where no gradient flows, so that nothing was kept."""
    if kept is None:
        return tf.ones(shape, tf.float64)
    tensor, q = kept
    highest = np.inf if layer.max_value is None else min(127, tensor.zero_point + int(6 / tensor.scale + 0.5))
    return tf.constant(((q > tensor.zero_point) & (q < highest)).astype(np.float64).reshape(shape))


def by_channel(model, name, plan, d_kernel, d_bias):
    layer, channels = model.get_layer(name), list(plan[name].channels)
    rows = np.moveaxis(d_kernel.numpy(), kernel_channel_axis(layer), 0)[channels]
    return rows.reshape(len(channels), -1), d_bias.numpy()[channels]
