"""A Keras model that computes in float what the int8 model of a bundle computes, and learns on the same grid as the device."""

import collections.abc
import math
import typing

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.export.bundle import Bundle
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.arena import smallest_arena
from keras_tinytrain.model.channels import find_weights
from keras_tinytrain.model.graph import rebuild
from keras_tinytrain.run.dequantise import dequantised_model
from keras_tinytrain.run.micro_model import MicroModel

_RELU, _RELU6 = 1, 3  # fusedActivationFunction


def on_grid_model(model: keras.Model, bundle: Bundle) -> keras.Model:
    """`model` with the values of the bundle's int8 model, for training in Keras as the device trains.

    Kernels and biases are float32 masters. A forward pass rounds them to the exported scales. It also rounds the output of each
    operator to the exported scale and zero point, in TensorFlow Lite's own fixed-point arithmetic, and clamps it by a fused
    ReLU. Gradients go straight through the rounding and stop at those clamps, as in `ActivationBackward` of the runtime.

    Args:
        model: the model that was exported.
        bundle: from `export_tflm` with weights_in_ram="whole".

    Returns:
        A new canonical model, with real values in and out. `fewshot.adapt` takes it like any other.

    Raises:
        ValueError: the bundle was exported from another model, holds layers in two parts, or holds an operator whose arithmetic
            is not known here. The operator is named.
    """
    canonical = dequantised_model(model, bundle)
    grids = _grids(canonical, [bundle.frozen, bundle.trainable])
    for layer in canonical.layers:
        if layer.name in grids and isinstance(layer, _WITH_BIAS):
            grids[layer.name].keeps_bias = not find_weights(model, layer.name).has_bias
    copies = {}

    def call(layer, *args, **kwargs):
        own = {"grid": grids[layer.name]} if layer.name in grids else {}
        kind = _ON_GRID[own["grid"].kind] if own else layer.__class__
        copies[layer] = kind.from_config({**layer.get_config(), **own})
        return copies[layer](*args, **kwargs)

    copy = rebuild(canonical, call)
    for layer, twin in copies.items():
        twin.set_weights(layer.get_weights())
    return copy


def multiply(x: tf.Tensor, factor: np.ndarray | np.floating | float) -> tf.Tensor:
    """round(x * factor) as TensorFlow Lite does it: 31 bits of a factor, rounded twice (`MultiplyByQuantizedMultiplier`).

    Args:
        x: whole numbers below 2^31, float64.
        factor: float64, a number or one of each channel.
    """
    mantissa, exponent = np.frexp(np.asarray(factor, np.float64))
    mantissa = np.rint(mantissa * 2**31).astype(np.int64)  # 2^31 itself does as well as half of it and a larger exponent
    left, right = np.maximum(exponent, 0).astype(np.int64), np.maximum(-exponent, 0).astype(np.int64)
    product = tf.cast(x, tf.int64) * 2**left * mantissa
    high = tf.bitwise.right_shift(product + 2**30, tf.constant(31, tf.int64))
    magnitude = tf.bitwise.right_shift(tf.abs(high) + 2**right // 2, tf.broadcast_to(right, tf.shape(high)))
    return tf.cast(tf.sign(high) * magnitude, tf.float64)  # half a step away from zero


class Grid:
    """Scales and zero points of one operator: of its inputs, its kernel and its output; and its clamps.

    `keeps_bias`: the bias is a folded norm's, which training leaves alone.
    """

    keeps_bias = False

    def __init__(self, model: fb.schema.ModelT, operator: fb.schema.OperatorT) -> None:
        ends = [int(tensor) for tensor in operator.inputs if tensor >= 0 and fb.constant(model, int(tensor)) is None]
        scales, zero_points = zip(*(fb.quantisation(model, tensor) for tensor in (*ends, int(operator.outputs[0]))))
        self.kind = fb.operator_name(model, operator)
        *self.input_scales, self.scale = (np.float32(scale[0]) for scale in scales)
        *self.input_zero_points, self.zero_point = (int(zero_point[0]) for zero_point in zero_points)
        weight = operator.inputs[1:2]  # none of an operator without a kernel
        self.kernel_scales = fb.quantisation(model, int(weight[0]))[0] if len(weight) else np.zeros(0, np.float32)
        if self.kind == "PRELU":
            self.slopes = fb.known(model, int(weight[0])).astype(np.float64) - fb.quantisation(model, int(weight[0]))[1]
            self.slope_scale = np.float32(self.kernel_scales[0])
        self.answers: np.ndarray = np.zeros(0)  # of an operator of one int8 value: see `_answers`
        activation = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
        activation = {"RELU": _RELU, "RELU6": _RELU6}.get(self.kind, activation)
        self.lowest, self.highest = -128, 127
        self.lower, self.upper = -129, 128  # strictly between them an activation lets a gradient through
        if activation in (_RELU, _RELU6):
            self.lowest = self.lower = self.zero_point
        if activation == _RELU6:
            self.highest = self.upper = min(127, self.zero_point + int(np.float32(6) / self.scale + np.float32(0.5)))

    def read(self, x, number=0):
        """Real values -> q - zero point of input `number`, float64; the gradient goes straight through."""
        scale, zero_point = self.input_scales[number], self.input_zero_points[number]
        return _steps(x, scale, -128 - zero_point, 127 - zero_point)

    def write(self, steps, rounded):
        """Real values, float32, of an output of `rounded` whole steps; the gradient is that of `steps`, float64.

        It is 0 where an activation clamps. The clamp of int8's own range does not stop it.
        """
        q = tf.clip_by_value(rounded + self.zero_point, self.lowest, self.highest)
        passes = tf.cast((q > self.lower) & (q < self.upper), q.dtype)
        out = _straight_through(passes * steps, q - self.zero_point)
        return tf.cast(out * self.scale.astype(np.float64), tf.float32)

    def weigh(self, x, kernel, bias, kernel_scales, product):
        """A convolution or dense layer: product(x, kernel) + bias, `kernel_scales` shaped to go with the kernel."""
        input_scale, scales = self.input_scales[0], self.kernel_scales
        sums = product(self.read(x), _steps(kernel, kernel_scales, -127, 127))
        if bias is not None:
            sums = sums + _steps(bias, input_scale * scales, -(2**30), 2**30)
        factor = np.float64(input_scale) * scales.astype(np.float64) / np.float64(self.scale)
        return self.write(sums * factor, multiply(tf.round(sums), factor))


_WITH_BIAS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


class _OnGrid(keras.layers.Layer):
    """A Keras layer with a `Grid`, that clones with it."""

    def __init__(self, *args: typing.Any, grid: Grid, **kwargs: typing.Any):
        super().__init__(*args, **kwargs)
        self.grid = grid

    @property
    def keeps_bias(self) -> bool:
        return self.grid.keeps_bias

    def get_config(self):
        return {**super().get_config(), "grid": self.grid}


class GridConv2D(_OnGrid, keras.layers.Conv2D):
    def call(self, inputs):
        return self.grid.weigh(inputs, self.kernel, self.bias, self.grid.kernel_scales, self.convolution_op)


class GridDepthwiseConv2D(_OnGrid, keras.layers.DepthwiseConv2D):
    def call(self, inputs):
        def product(x, kernel):
            return keras.ops.depthwise_conv(x, kernel, self.strides, self.padding)

        return self.grid.weigh(inputs, self.kernel, self.bias, self.grid.kernel_scales[:, None], product)


class GridDense(_OnGrid, keras.layers.Dense):
    def call(self, inputs):
        return self.grid.weigh(inputs, self.kernel, self.bias, self.grid.kernel_scales, tf.matmul)


class GridAdd(_OnGrid, keras.layers.Add):
    def call(self, inputs):
        """Both go to 2^-20 of a common step, twice the larger one, before they are added."""
        grid, step = self.grid, 2 * np.float64(max(self.grid.input_scales))
        x = [grid.read(each, number) for number, each in enumerate(inputs)]
        scales = [np.float64(scale) for scale in grid.input_scales]
        fine = sum(multiply(tf.round(each) * 2**20, scale / step) for each, scale in zip(x, scales, strict=True))
        exact = sum(each * scale for each, scale in zip(x, scales, strict=True)) / np.float64(grid.scale)
        return grid.write(exact, multiply(fine, step / (2**20 * np.float64(grid.scale))))


class GridAveragePooling2D(_OnGrid, keras.layers.AveragePooling2D):
    def call(self, inputs):
        """The mean of int8 values, half a step away from zero; the scale stays."""
        grid = self.grid
        mean = super().call(grid.read(inputs))
        q = mean + grid.zero_point
        return grid.write(mean, tf.sign(q) * tf.floor(tf.abs(q) + 0.5 + 1e-9) - grid.zero_point)


class GridGlobalAveragePooling2D(_OnGrid, keras.layers.GlobalAveragePooling2D):
    def call(self, inputs):
        """The sum, multiplied by input scale / (output scale * positions)."""
        grid, count = self.grid, inputs.shape[1] * inputs.shape[2]
        total = tf.reduce_sum(grid.read(inputs), axis=(1, 2), keepdims=self.keepdims)
        factor = np.float64(grid.input_scales[0]) / np.float64(grid.scale) / count
        return grid.write(total * factor, multiply(tf.round(total), factor))


class GridMaxPooling2D(_OnGrid, keras.layers.MaxPooling2D):
    def call(self, inputs):
        steps = _first_maxima(self.grid.read(inputs), self.pool_size, self.strides, self.padding)
        return self.grid.write(steps, steps)


class GridGlobalMaxPooling2D(_OnGrid, keras.layers.GlobalMaxPooling2D):
    def call(self, inputs):
        steps = _first_maxima(self.grid.read(inputs), inputs.shape[1:3], (1, 1), "valid")
        return self.grid.write(*[steps if self.keepdims else steps[:, 0, 0]] * 2)


class GridReLU(_OnGrid, keras.layers.ReLU):
    def call(self, inputs):
        x, factor = self.grid.read(inputs), np.float64(self.grid.input_scales[0]) / np.float64(self.grid.scale)
        return self.grid.write(x * factor, multiply(tf.round(x), factor))


class GridLeakyReLU(_OnGrid, keras.layers.LeakyReLU):
    def call(self, inputs):
        """The two halves have a factor each. The gradient is that of the half in which the output lies; 0 is in the lower one."""
        grid, slope = self.grid, np.float64(np.float32(self.negative_slope))
        x, factor = grid.read(inputs), np.float64(grid.input_scales[0]) / np.float64(grid.scale)
        whole = tf.round(x)
        rounded = tf.where(whole >= 0, multiply(whole, factor), multiply(whole, slope * factor))
        above = tf.minimum(rounded, 127 - grid.zero_point) > 0
        return grid.write(x * factor * tf.where(above, np.float64(1), slope), rounded)


class GridMultiply(_OnGrid, keras.layers.Multiply):
    def call(self, inputs):
        grid = self.grid
        product = grid.read(inputs[0], 0) * grid.read(inputs[1], 1)
        factor = np.prod(np.asarray(grid.input_scales, np.float64)) / np.float64(grid.scale)
        return grid.write(product * factor, multiply(tf.round(product), factor))


class GridConcatenate(_OnGrid, keras.layers.Concatenate):
    def call(self, inputs):
        """Each input goes to the grid of the output, as by QUANTIZE."""
        grid, parts = self.grid, []
        for number, each in enumerate(inputs):
            x, factor = grid.read(each, number), np.float64(grid.input_scales[number]) / np.float64(grid.scale)
            parts.append(grid.write(x * factor, multiply(tf.round(x), factor)))
        return super().call(parts)


class GridActivation(_OnGrid, keras.layers.Activation):
    def call(self, inputs):
        """TensorFlow Lite Micro's own answers. The derivative is that of the int8 values that the device keeps."""
        grid = self.grid
        x = grid.read(inputs)
        rounded = tf.gather(grid.answers, tf.cast(tf.round(x), tf.int32) + grid.input_zero_points[0] + 128)
        y, factor = rounded * np.float64(grid.scale), np.float64(grid.input_scales[0]) / np.float64(grid.scale)
        slope = _DERIVATIVES[grid.kind](tf.stop_gradient(x) * np.float64(grid.input_scales[0]), y)
        return grid.write(x * factor * slope, rounded)


class GridPReLU(_OnGrid, keras.layers.PReLU):
    def call(self, inputs):
        """As GridLeakyReLU, with a slope of each channel, int8."""
        grid, x = self.grid, self.grid.read(inputs)
        slopes, factor = grid.slopes, np.float64(grid.input_scales[0]) / np.float64(grid.scale)
        whole = tf.round(x)
        below = multiply(whole * slopes, factor * np.float64(grid.slope_scale))
        rounded = tf.where(whole >= 0, multiply(whole, factor), below)
        slope = np.float32(slopes * np.float64(grid.slope_scale)).astype(np.float64)
        return grid.write(x * factor * tf.where(rounded > 0, np.float64(1), slope), rounded)


# {operator: (real input, real output) -> derivative}, as in tinytrain/backward/operators.cpp
_DERIVATIVES: dict[str, collections.abc.Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "LOGISTIC": lambda x, y: y * (1 - y),
    "TANH": lambda x, y: 1 - y * y,
    "ELU": lambda x, y: tf.where(y > 0, tf.ones_like(y), y + 1),
    "HARD_SWISH": lambda x, y: tf.where(x <= -3, tf.zeros_like(x), tf.where(x >= 3, tf.ones_like(x), (2 * x + 3) / 6)),
}

# {TensorFlow Lite's operator: the Keras layer that computes it}, of all that export/backward/operators.py declares.
_ON_GRID: dict[str, type[keras.layers.Layer]] = {
    "CONV_2D": GridConv2D,
    "DEPTHWISE_CONV_2D": GridDepthwiseConv2D,
    "FULLY_CONNECTED": GridDense,
    "ADD": GridAdd,
    "AVERAGE_POOL_2D": GridAveragePooling2D,
    "MEAN": GridGlobalAveragePooling2D,
    "MAX_POOL_2D": GridMaxPooling2D,
    "REDUCE_MAX": GridGlobalMaxPooling2D,
    "RELU": GridReLU,
    "RELU6": GridReLU,
    "LEAKY_RELU": GridLeakyReLU,
    "PRELU": GridPReLU,
    "MUL": GridMultiply,
    "CONCATENATION": GridConcatenate,
    **dict.fromkeys(_DERIVATIVES, GridActivation),
}
_AS_IT_IS = ("PAD", "RESHAPE")  # their output is on the grid of their inputs
_BEFORE_JOINS = "QUANTIZE"  # done by the concatenation that reads it, see `GridConcatenate`


def _grids(model, files):
    """{name: Grid} of the layers of a canonical model that round. After a fused activation, a ReLU layer changes nothing more."""
    kinds = {layer.name: type(layer) for layer in model.layers}
    found: dict[str, Grid] = {}
    for file in (file for file in files if file is not None):
        tflite = fb.read_model(file)
        for index, operator in enumerate(_with_requantised(tflite)):
            if operator is None:
                continue
            names, kind = fb.tensor_name(tflite, int(operator.outputs[0])).split(";"), fb.operator_name(tflite, operator)
            own = [name for name in names if kind in _ON_GRID and kinds.get(name) in _ON_GRID[kind].__bases__]
            if kind not in _AS_IT_IS and len(own) != 1:
                known = ", ".join([*_ON_GRID, *_AS_IT_IS])
                raise ValueError(f"{kind} of layer '{names[0]}' is not known on the grid. Known: {known}.")
            found |= {name: Grid(tflite, operator) for name in own}
            if kind in _DERIVATIVES:
                found[own[0]].answers = _answers(file, index) - found[own[0]].zero_point
    return found


def _with_requantised(tflite: fb.schema.ModelT) -> list[fb.schema.OperatorT | None]:
    """The operators; None for a QUANTIZE that CONCATENATIONs alone read, which read its input instead."""
    operators = list(tflite.subgraphs[0].operators)
    for index, operator in enumerate(operators):
        readers = [each for each in operators if each is not None and operator.outputs[0] in each.inputs]
        if {fb.operator_name(tflite, each) for each in (operator, *readers)} == {_BEFORE_JOINS, "CONCATENATION"}:
            for each in readers:
                each.inputs = [operator.inputs[0] if tensor == operator.outputs[0] else tensor for tensor in each.inputs]
            operators[index] = None
    return operators


def _answers(file: bytes, index: int) -> np.ndarray:
    """What operator `index` of one input answers to each int8 value from -128 to 127, float64: asked of TensorFlow Lite Micro."""
    model = fb.read_model(file)
    operator = model.subgraphs[0].operators[index]
    ends = [[int(tensor) for tensor in tensors] for tensors in (operator.inputs, operator.outputs)]
    shape = fb.shape_of(model, ends[0][0])
    part = fb.part_of(model, [index], *ends)
    micro = MicroModel(part, smallest_arena(part))
    values = np.resize(np.arange(-128, 128, dtype=np.int8), (-(-256 // math.prod(shape)), *shape))
    return np.concatenate([micro(value)[0].ravel() for value in values])[:256].astype(np.float64)


def _first_maxima(steps, size, strides, padding):
    """Max pooling. The first of equal maxima, which are common here, has the gradient, as on the device."""
    windows = tf.nn.max_pool_with_argmax(
        tf.cast(steps, tf.float32), size, strides, padding.upper(), output_dtype=tf.int64, include_batch_in_index=True
    )
    return tf.gather(tf.reshape(steps, [-1]), windows.argmax)


def _steps(x, scale, lowest, highest):
    """Real values -> whole steps of their scale, float64, half to even; the gradient goes straight through.

    Pixels often lie half between two steps, so they must be divided in float32, as everywhere. A compiled graph would multiply
    by the reciprocal of a constant; it does not change DivNoNan.
    """
    steps = tf.clip_by_value(tf.round(tf.math.divide_no_nan(x, scale)), lowest, highest)
    return _straight_through(tf.cast(x, tf.float64) / np.asarray(scale, np.float64), tf.cast(steps, tf.float64))


def _straight_through(value, exact):
    """`exact` with the gradient of `value`."""
    return value + tf.stop_gradient(exact - value)
