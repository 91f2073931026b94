"""An int8 network in numpy: TensorFlow Lite's forward pass, bit for bit, and the backward pass in float64."""

import hashlib
from dataclasses import dataclass, field

import numpy as np

NONE, STORED_SAMPLE = -1, -2


def quantize_multiplier(real):
    """real = multiplier / 2^31 * 2^shift, multiplier in [2^30, 2^31)."""
    fraction, shift = np.frexp(real)
    multiplier = np.floor(fraction * (1 << 31) + 0.5).astype(np.int64)
    full = multiplier == 1 << 31
    return np.where(full, multiplier // 2, multiplier), shift.astype(np.int64) + full


def rescale(x, real):
    """MultiplyByQuantizedMultiplier: doubling high multiplication, then a rounding shift, each rounding once. `real`: one
    factor, or one per channel."""
    multiplier, shift = quantize_multiplier(np.asarray(real, np.float64))
    product = (np.asarray(x, np.int64) << np.maximum(shift, 0)) * multiplier
    high = np.where(product >= 0, product + (1 << 30), product + 1 - (1 << 30))
    high = np.sign(high) * (np.abs(high) >> 31)  # division by 2^31 that truncates
    right = np.maximum(-shift, 0)
    mask = (1 << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))


ELEMENTWISE = {  # the function, and its derivative from real input and output
    "logistic": (lambda x: 1 / (1 + np.exp(-x)), lambda x, y: y * (1 - y)),
    "tanh": (np.tanh, lambda x, y: 1 - y * y),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), lambda x, y: np.where(y > 0, 1, y + 1)),
    "hard_swish": (
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
        lambda x, y: np.where(x <= -3, 0, np.where(x >= 3, 1, (2 * x + 3) / 6)),
    ),
}


@dataclass
class Tensor:
    shape: tuple  # height, width, channels
    scale: float
    zero_point: int
    kept: int = NONE
    gradient_offset: int = NONE
    num_planes: int = 0

    @property
    def num_gradient_bytes(self):
        return 4 * int(np.prod((*self.shape[:2], self.num_planes or self.shape[2])))


@dataclass
class Layer:
    op: str
    input: int
    output: int
    activation: str = "linear"
    input2: int = NONE
    window: tuple = (1, 1, 1, 1, 0, 0)  # kernel height and width, strides, padding top and left
    kernel: np.ndarray = None
    scales: np.ndarray = None
    bias: np.ndarray = None
    accumulate: tuple = (False, False)
    slope: float = 0.0


@dataclass
class Net:
    tensors: list = field(default_factory=list)
    layers: list = field(default_factory=list)
    trained: dict = field(default_factory=dict)  # layer index -> channels
    split: tuple = ()  # indices of trained layers of which RAM holds the trained channels only
    candidates: tuple = ()  # (criterion, backward MACs): `trained` is what the device may choose from, with all channels
    head: str = "prototypes"
    views: tuple = ()
    image_shape: tuple = (12, 10, 4)
    settings: dict = field(default_factory=dict)
    bound: dict = field(default_factory=dict)  # tensor index -> array in the trainer's arena

    # ---- forward ---------------------------------------------------------------------------------------------------------

    def weights(self, index):
        """Kernel and bias as the forward pass sees them: bound ones, else those in flash."""
        layer = self.layers[index]
        kernel = self.bound.get(100 + index)
        bias = self.bound.get(200 + index)
        if index in self.split:
            kernel, bias = (self.whole(index, whole, rows) for whole, rows in ((layer.kernel, kernel), (layer.bias, bias)))
        return (layer.kernel if kernel is None else kernel.reshape(layer.kernel.shape), layer.bias if bias is None else bias)

    def whole(self, index, whole, rows):
        """All output channels of a layer of which RAM holds `rows`."""
        if rows is None:
            return None
        whole = whole.copy()
        whole[self.trained[index]] = rows.reshape(-1, *whole.shape[1:])
        return whole

    def forward(self, features):
        """Every tensor, int8 [height, width, channels], from the int8 input."""
        values = {0: np.asarray(features, np.int8).reshape(self.tensors[0].shape)}
        for index, layer in enumerate(self.layers):
            values[layer.output] = self.run_layer(index, values)
        return [values[i] for i in range(len(self.tensors))]

    def accumulators(self, index, values):
        """Integer sums of a layer with a kernel, [height, width, channels]."""
        layer = self.layers[index]
        kernel, bias = self.weights(index)
        x = values[layer.input].astype(np.int64) - self.tensors[layer.input].zero_point
        if layer.op == "dense":
            sums = kernel.astype(np.int64) @ x.reshape(-1)
            sums = sums.reshape(1, 1, -1)
        elif layer.op == "along":
            sums = x @ kernel.astype(np.int64).T
        else:
            taken = patches(x, layer, self.tensors[layer.output].shape)[0]
            sums = np.einsum("yxabc,abc->yxc" if layer.op == "depthwise" else "yxabi,oabi->yxo", taken, kernel.astype(np.int64))
        return sums + (0 if bias is None else bias.astype(np.int64))

    def run_layer(self, index, values):
        layer = self.layers[index]
        x, output, first = values[layer.input], self.tensors[layer.output], self.tensors[layer.input]
        if layer.op == "reshape":
            return x.reshape(output.shape)
        if layer.op in ELEMENTWISE or layer.op in ("multiply", "concatenate", "prelu", "scale"):  # any rounding will do
            return np.clip(np.rint(self.real_output(layer, values) / output.scale) + output.zero_point, -128, 127).astype(
                np.int8
            )
        if layer.op in ("conv", "depthwise", "dense", "along"):
            sums = self.accumulators(index, values)
            real = [float(first.scale) * float(s) / float(output.scale) for s in layer.scales]
            q = rescale(sums, real)
        elif layer.op == "add":
            second = self.tensors[layer.input2]
            twice = 2 * max(first.scale, second.scale)
            left = rescale((x.astype(np.int64) - first.zero_point) << 20, first.scale / twice)
            right = rescale((values[layer.input2].astype(np.int64) - second.zero_point) << 20, second.scale / twice)
            q = rescale(left + right, twice / ((1 << 20) * output.scale))
        elif layer.op == "pool":
            taken, inside, _ = patches(x.astype(np.int64), layer, output.shape)
            sums, counts = taken.sum((2, 3)), inside.sum((2, 3))[..., None]
            q = np.sign(sums) * ((np.abs(sums) + counts // 2) // counts) - output.zero_point  # C's division truncates
        elif layer.op == "max":
            inside, places = patches(x, layer, output.shape)[1:]
            q = np.where(inside[..., None], x[places].astype(np.int64), -128).max((2, 3)) - output.zero_point
        elif layer.op == "pad":
            after = [(before, size - before - old) for before, size, old in zip((*layer.window[4:], 0), output.shape, x.shape)]
            q = np.pad(x.astype(np.int64) - first.zero_point, after)
        else:
            steps, factor = x.astype(np.int64) - first.zero_point, first.scale / output.scale
            q = rescale(steps, factor)
            if layer.op == "leaky":
                q = np.where(steps >= 0, q, rescale(steps, float(np.float32(layer.slope)) * factor))
        return np.clip(q + output.zero_point, *self.clamps(layer)).astype(np.int8)

    def real_output(self, layer, values):
        """Of an operator with one or two inputs and no window, float64."""
        x = self.real(layer.input, values[layer.input])
        other = self.real(layer.input2, values[layer.input2]) if layer.input2 != NONE else None
        if layer.op == "multiply":
            return x * other
        if layer.op == "concatenate":
            return np.concatenate([x, other], axis=-1)
        if layer.op == "prelu":
            return np.where(x > 0, x, layer.scales * x)
        return layer.slope * x if layer.op == "scale" else ELEMENTWISE[layer.op][0](x)

    def clamps(self, layer):
        output = self.tensors[layer.output]
        low = max(-128, output.zero_point) if layer.activation != "linear" else -128
        six = output.zero_point + int(np.floor(np.float32(6) / np.float32(output.scale) + 0.5))
        return low, min(127, six) if layer.activation == "relu6" else 127

    def run_frozen(self, image):
        """A stand-in for the frozen part: every second row and column."""
        return np.ascontiguousarray(image.reshape(self.image_shape)[::2, ::2])

    def run_trainable(self, features):
        values = self.forward(features)
        outputs = [None] * self.num_outputs
        for tensor, value in zip(self.tensors, values):
            if tensor.kept >= 0:
                outputs[tensor.kept] = value
        return outputs

    def bind(self, tensor, array):
        self.bound[tensor] = array

    @property
    def num_outputs(self):
        return 1 + max(t.kept for t in self.tensors)

    def real(self, index, q):
        tensor = self.tensors[index]
        return (q.astype(np.float64) - tensor.zero_point) * np.float64(np.float32(tensor.scale))

    # ---- backward, float64 -----------------------------------------------------------------------------------------------

    def backward(self, values, d_last):
        """Gradients of the trained channels, layer -> (d_kernel [channels, weights per channel], d_bias)."""
        outputs = self.output_gradients(values, d_last)
        return {index: self.weight_gradients(index, values, outputs[index]) for index in outputs if index in self.trained}

    def fisher_products(self, values, d_last):
        """Layer -> sum over positions of activation times gradient, [channels]."""
        outputs = self.output_gradients(values, d_last)
        real = {index: self.real(self.layers[index].output, values[self.layers[index].output]) for index in outputs}
        return {index: (real[index] * outputs[index]).sum((0, 1)) for index in outputs if index in self.trained}

    def output_gradients(self, values, d_last):
        """Layer -> gradient of its output before its activation."""
        d = {len(self.tensors) - 1: np.asarray(d_last, np.float64).reshape(self.tensors[-1].shape)}
        result = {}
        for index in reversed(range(len(self.layers))):
            layer = self.layers[index]
            if layer.output not in d:
                continue
            d_output = d[layer.output]
            if layer.activation != "linear":
                low, high = self.clamps(layer)
                q = values[layer.output]
                d_output = d_output * ((q > low) & ((q < high) | (layer.activation == "relu")))
            result[index] = d_output
            for tensor in (layer.input, layer.input2):
                if tensor == NONE or self.tensors[tensor].gradient_offset == NONE:
                    continue
                d[tensor] = d.get(tensor, 0) + self.input_gradient(index, tensor, d_output, values)
        return result

    def weight_gradients(self, index, values, d_output):
        layer = self.layers[index]
        x = self.real(layer.input, values[layer.input])
        if layer.op == "along":
            rows = np.einsum("yxo,yxi->oi", d_output, x)
        elif layer.op == "dense":
            rows = np.outer(d_output.reshape(-1), x.reshape(-1))
        else:
            taken = patches(x, layer, d_output.shape)[0]
            rows = np.einsum("yxc,yxabc->cab" if layer.op == "depthwise" else "yxo,yxabi->oabi", d_output, taken)
        channels = self.trained[index]
        bias = None if layer.bias is None else d_output.sum((0, 1))[channels]
        return rows.reshape(rows.shape[0], -1)[channels], bias

    def input_gradient(self, index, tensor, d_output, values):
        layer, shape = self.layers[index], self.tensors[tensor].shape
        if layer.op in ("add", "activation", "reshape"):
            return d_output.reshape(shape)
        if layer.op in ELEMENTWISE:
            x, y = (self.real(place, values[place]) for place in (layer.input, layer.output))
            return d_output * ELEMENTWISE[layer.op][1](x, y)
        if layer.op == "scale":
            return d_output * np.float64(np.float32(layer.slope))
        if layer.op == "multiply":
            other = layer.input2 if tensor == layer.input else layer.input
            product = d_output * self.real(other, values[other])
            return product if shape == d_output.shape else product.sum((0, 1), keepdims=True)
        if layer.op == "concatenate":
            return d_output[..., : shape[2]] if tensor == layer.input else d_output[..., -shape[2] :]
        if layer.op == "prelu":
            above = values[layer.output] > self.tensors[layer.output].zero_point
            return d_output * np.where(above, 1, layer.scales.astype(np.float64))
        if layer.op == "along":
            return (d_output * layer.scales.astype(np.float64)) @ self.weights(index)[0].astype(np.float64)
        if layer.op == "leaky":
            above = values[layer.output] > self.tensors[layer.output].zero_point
            return d_output * np.where(above, 1, np.float64(np.float32(layer.slope)))
        if layer.op == "pad":
            top, left = layer.window[4:]
            return d_output[top : top + shape[0], left : left + shape[1]]
        if layer.op == "max":
            inside, places = patches(np.zeros(shape), layer, d_output.shape)[1:]
            return scatter(d_output[:, :, None, None, :] * first_maxima(values[tensor], inside, places), inside, places, shape)
        if layer.op == "pool":
            _, inside, places = patches(np.zeros(shape), layer, d_output.shape)
            weights = inside / inside.sum((2, 3), keepdims=True)
            return scatter(np.einsum("yxc,yxab->yxabc", d_output, weights), inside, places, shape)
        kernel = self.weights(index)[0].astype(np.float64)
        scales = np.asarray(layer.scales, np.float64)
        if layer.op == "dense":
            return ((scales * d_output.reshape(-1)) @ kernel).reshape(shape)
        pattern = "yxc,abc->yxabc" if layer.op == "depthwise" else "yxo,oabi->yxabi"
        _, inside, places = patches(np.zeros(shape), layer, d_output.shape)
        return scatter(np.einsum(pattern, d_output * scales, kernel), inside, places, shape)

    @property
    def base_hash(self):
        return hashlib.sha256(b"small net").digest()

    @property
    def gradient_bytes(self):
        return max(t.gradient_offset + t.num_gradient_bytes for t in self.tensors if t.gradient_offset != NONE)


def patches(x, layer, output_shape):
    """Windows [oh, ow, kh, kw, channels] with zeros outside, the mask of taps inside, and their places."""
    kh, kw, sh, sw, pt, pl = layer.window
    y = np.arange(output_shape[0])[:, None] * sh - pt + np.arange(kh)
    z = np.arange(output_shape[1])[:, None] * sw - pl + np.arange(kw)
    inside = ((y >= 0) & (y < x.shape[0]))[:, None, :, None] & ((z >= 0) & (z < x.shape[1]))[None, :, None, :]
    places = np.clip(y, 0, x.shape[0] - 1)[:, None, :, None], np.clip(z, 0, x.shape[1] - 1)[None, :, None, :]
    return np.where(inside[..., None], x[places], 0), inside, places


def first_maxima(x, inside, places):
    """1 at the first largest value of each window, row by row, else 0: [oh, ow, kh, kw, channels]."""
    taken = np.where(inside[..., None], x[places].astype(np.int64), -1000)
    flat = taken.reshape(*taken.shape[:2], -1, taken.shape[-1])
    return (np.arange(flat.shape[2])[:, None] == flat.argmax(2)[:, :, None]).reshape(taken.shape)


def scatter(d_patches, inside, places, shape):
    d_x = np.zeros(shape)
    np.add.at(d_x, places, np.where(inside[..., None], d_patches, 0))
    return d_x
