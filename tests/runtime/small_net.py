"""A small int8 network as the exporter would write it: exact forward pass, float64 backward pass, and its tables as C++."""

import ctypes
import hashlib
import os
import pathlib
import subprocess
from dataclasses import dataclass, field

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tflm_runtime" / "src"
NONE, STORED_SAMPLE = -1, -2
OPERATORS = {"conv": "kConv2D", "depthwise": "kDepthwiseConv2D", "dense": "kDense", "add": "kAdd", "pool": "kAveragePool2D",
             "activation": "kActivation", "reshape": "kReshape", "max": "kMaxPool2D", "pad": "kPad"}
ACTIVATIONS = {"linear": "kLinear", "relu": "kRelu", "relu6": "kRelu6"}


# ---- TensorFlow Lite's reference arithmetic ------------------------------------------------------------------------------

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
        return (layer.kernel if kernel is None else kernel.reshape(layer.kernel.shape),
                layer.bias if bias is None else bias)

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
        else:
            taken = patches(x, layer, self.tensors[layer.output].shape)[0]
            sums = np.einsum("yxabc,abc->yxc" if layer.op == "depthwise" else "yxabi,oabi->yxo", taken, kernel.astype(np.int64))
        return sums + (0 if bias is None else bias.astype(np.int64))

    def run_layer(self, index, values):
        layer = self.layers[index]
        x, output, first = values[layer.input], self.tensors[layer.output], self.tensors[layer.input]
        if layer.op == "reshape":
            return x.reshape(output.shape)
        if layer.op in ("conv", "depthwise", "dense"):
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
            behind = [(before, size - before - old) for before, size, old in zip((*layer.window[4:], 0), output.shape, x.shape)]
            q = np.pad(x.astype(np.int64) - first.zero_point, behind)
        else:
            q = rescale(x.astype(np.int64) - first.zero_point, first.scale / output.scale)
        return np.clip(q + output.zero_point, *self.clamps(layer)).astype(np.int8)

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
        if layer.op == "dense":
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

    # ---- tables ----------------------------------------------------------------------------------------------------------

    def render(self, symbol="tinytrain_tables"):
        """The tables as C++ with one extern "C" function that returns their address."""
        code = ['#include "tinytrain_tables.h"', "namespace {", "using namespace tinytrain;"]
        for i, layer in enumerate(self.layers):
            others = np.delete(np.arange(layer.kernel.shape[0]), self.trained[i]) if i in self.split else ...
            if layer.kernel is not None:
                code.append(array("std::int8_t", f"kernel_{i}", layer.kernel[others].reshape(-1)))
                code.append(array("float", f"scales_{i}", layer.scales))
            if layer.bias is not None:
                code.append(array("std::int32_t", f"bias_{i}", layer.bias[others]))
            if i in self.split:
                code.append(array("std::int8_t", f"trained_kernel_{i}", layer.kernel[self.trained[i]].reshape(-1)))
            if i in self.split and layer.bias is not None:
                code.append(array("std::int32_t", f"trained_bias_{i}", layer.bias[self.trained[i]]))
        for index, channels in self.trained.items():
            code.append("" if self.candidates else array("std::uint16_t", f"channels_{index}", channels))
        code.append(f"const Tensor tensors[] = {{{', '.join(self.render_tensor(t) for t in self.tensors)}}};")
        code.append(f"const Layer layers[] = {{{', '.join(self.render_layer(i) for i in range(len(self.layers)))}}};")
        code.append(f"const TrainedLayer trained[] = {{{', '.join(self.render_trained(i) for i in self.trained)}}};")
        if self.views:
            rows = (f"{{{y}, {x}, {str(mirrored).lower()}}}" for y, x, mirrored in self.views)
            code.append(f"const View views[] = {{{', '.join(rows)}}};")
        code += [f"const Tables tables = {self.render_tables()};", "}  // namespace",
                 f'extern "C" const void* {symbol}() {{ return &tables; }}', ""]
        return "\n".join(code)

    def render_tensor(self, t):
        place = f"{t.kept}, {t.gradient_offset}, {t.num_planes}"
        return f"{{{', '.join(map(str, t.shape))}, {number(t.scale)}, {t.zero_point}, {place}}}"

    def render_layer(self, i):
        x = self.layers[i]
        pointers = f"kernel_{i}, scales_{i}" if x.kernel is not None else "nullptr, nullptr"
        bias = f"bias_{i}" if x.bias is not None else "nullptr"
        flags = ", ".join(str(a).lower() for a in x.accumulate)
        return (f"{{Operator::{OPERATORS[x.op]}, Activation::{ACTIVATIONS[x.activation]}, {flags}, {x.input}, {x.input2}, "
                f"{x.output}, {', '.join(map(str, x.window))}, {pointers}, {bias}}}")

    def render_trained(self, i):
        bias = 200 + i if self.layers[i].bias is not None else NONE
        split = f"trained_kernel_{i}" if i in self.split else "nullptr"
        split += f", trained_bias_{i}" if i in self.split and self.layers[i].bias is not None else ", nullptr"
        channels = "nullptr" if self.candidates else f"channels_{i}"
        return f'{{"layer_{i}", {i}, {100 + i}, {bias}, {len(self.trained[i])}, {channels}, {split}}}'

    def render_tables(self):
        s = {"optimizer": "kSgd", "weights": "kFloatMasters", "updates": "kAccumulated", "leave_one_out": False,
             "learning_rate": 0.1, "momentum": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "logit_scale": 10.0, "average": 0.0,
             "iterations": 3, "num_classes": 3, "max_samples": 8, "seed": 0, **self.settings}
        training = ", ".join([
            f"Optimizer::{s['optimizer']}", f"WeightStorage::{s['weights']}", f"Updates::{s['updates']}",
            str(s["leave_one_out"]).lower(),
            *(number(s[k]) for k in ("learning_rate", "momentum", "beta_2", "epsilon", "logit_scale", "average")),
            *(str(s[k]) for k in ("iterations", "num_classes", "max_samples", "seed"))])
        head = "kPrototypes" if self.head == "prototypes" else "kSoftmax"
        views = f"{len(self.views)}, {'views' if self.views else 'nullptr'}"
        candidates = "0, 0, Criterion::kPotential, 0"
        if self.candidates:
            criterion, macs = self.candidates
            candidates = f"{len(self.trained)}, {sum(map(len, self.trained.values()))}, Criterion::{criterion}, {macs}u"
        return (f"{{kTablesVersion, {{{', '.join(map(str, self.base_hash))}}}, Head::{head}, "
                f"{', '.join(map(str, self.image_shape))}, 0.05f, 0, {len(self.tensors)}, tensors, {len(self.layers)}, layers, "
                f"{len(self.trained)}, trained, {self.num_outputs}, {self.tensors[-1].kept}, {views}, {self.gradient_bytes}, "
                f"{{{training}}}, {{{candidates}}}}}")

    @property
    def base_hash(self):
        return hashlib.sha256(b"small net").digest()

    @property
    def gradient_bytes(self):
        return max(t.gradient_offset + t.num_gradient_bytes for t in self.tensors if t.gradient_offset != NONE)

    def load(self, folder):
        """Compile the tables into a shared library; returns (address, the library, to be kept alive)."""
        source, library = folder / "tables.cpp", folder / "tables.so"
        source.write_text(self.render())
        compiler = os.environ.get("CXX", "c++")
        subprocess.run([compiler, "-std=gnu++14", "-shared", "-fPIC", f"-I{SOURCES}", source, "-o", library], check=True)
        loaded = ctypes.CDLL(str(library))
        loaded.tinytrain_tables.restype = ctypes.c_void_p
        return loaded.tinytrain_tables(), loaded


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


def number(x):
    return float(np.float32(x)).hex() + "f"


def array(ctype, name, values):
    text = ", ".join(number(v) if ctype == "float" else str(int(v)) for v in values)
    return f"const {ctype} {name}[] = {{{text}}};"


# ---- the network of the tests --------------------------------------------------------------------------------------------

def small_net(head="prototypes", seed=0, by_channel=0, picking=False, candidates=()):
    """Convolution, an inverted bottleneck with a residual, a strided convolution, pooling, reshape and dense: every operator
    that the runtime knows, both activations, gradients that accumulate, and two that change places in one buffer. With
    `by_channel`, the bottleneck's wide middle goes backwards so many channels at a time. With `picking`, max pooling and
    padding take the place of average pooling and reshape."""
    rng = np.random.default_rng(seed)
    net = Net(head=head)
    inputs = rng.integers(-128, 128, (6, 6, 5, 4), np.int8)
    net.tensors.append(Tensor((6, 5, 4), 0.05, 3, kept=STORED_SAMPLE))

    def add(op, shape, source=None, source2=NONE, activation="linear", window=(1, 1, 1, 1, 0, 0), bias=True):
        source = len(net.tensors) - 1 if source is None else source
        layer = Layer(op, source, len(net.tensors), activation, source2, window)
        index = len(net.layers)
        net.layers.append(layer)
        previous = net.tensors[source]
        net.tensors.append(Tensor(shape, previous.scale, previous.zero_point))
        if op in ("conv", "depthwise", "dense"):
            kernel_shape = {"conv": (shape[2], *window[:2], previous.shape[2]), "depthwise": (*window[:2], shape[2]),
                            "dense": (shape[2], int(np.prod(previous.shape)))}[op]
            layer.kernel = rng.integers(-127, 128, kernel_shape, np.int8)
            scales = np.full(shape[2], 0.01) if op == "dense" else rng.uniform(0.004, 0.01, shape[2])
            layer.scales = scales.astype(np.float32)
            layer.bias = rng.integers(-2000, 2000, shape[2], np.int32) if bias else None
        if op not in ("reshape", "pool", "max", "pad"):
            calibrate(index)

    def calibrate(index):
        """Give the output the range that six random inputs fill."""
        layer, output = net.layers[index], net.tensors[net.layers[index].output]
        lowest, highest = 0.0, 0.0
        for x in inputs:
            values = {0: x}
            for i in range(index):
                values[net.layers[i].output] = net.run_layer(i, values)
            if layer.kernel is not None:
                real = net.accumulators(index, values) * (np.float64(net.tensors[layer.input].scale) * layer.scales)
            else:
                real = net.real(layer.input, values[layer.input])
                real = real + (net.real(layer.input2, values[layer.input2]) if layer.input2 != NONE else 0)
            if layer.activation != "linear":
                real = np.clip(real, 0, 6 if layer.activation == "relu6" else None)
            lowest, highest = min(lowest, real.min()), max(highest, real.max())
        output.scale = float(np.float32(max(highest - lowest, 0.1) / 255))
        output.zero_point = int(np.clip(round(-128 - lowest / output.scale), -128, 127))

    add("conv", (6, 5, 6), window=(3, 3, 1, 1, 1, 1))                                   # 0 -> 1
    add("conv", (6, 5, 8), activation="relu6")                                          # 1 -> 2
    add("depthwise", (6, 5, 8), activation="relu6", window=(3, 3, 1, 1, 1, 1))          # 2 -> 3
    add("conv", (6, 5, 6), bias=False)                                                  # 3 -> 4
    add("add", (6, 5, 6), source2=1, activation="relu")                                 # 4, 1 -> 5
    add("depthwise", (3, 3, 6), window=(5, 3, 2, 2, 2, 1))                              # 5 -> 6
    add("activation", (3, 3, 6), activation="relu")                                     # 6 -> 7
    add("conv", (2, 2, 5), window=(3, 2, 2, 2, 1, 0))                                   # 7 -> 8
    if picking:
        add("max", (2, 2, 5), window=(2, 2, 1, 1, 1, 1))                                # 8 -> 9
        add("pad", (3, 4, 5), window=(1, 1, 1, 1, 1, 0))                                # 9 -> 10
    else:
        add("pool", (1, 1, 5), window=(2, 2, 1, 1, 0, 0))                               # 8 -> 9
        add("reshape", (1, 1, 5))                                                       # 9 -> 10
    add("dense", (1, 1, 7 if head == "prototypes" else 3), activation="linear")         # 10 -> 11

    scored = (4, 6) if candidates else ()
    for kept, tensor in enumerate((1, 2, 3, 5, 7, 10, 11) + ((8,) if picking or candidates else ()) + scored):
        net.tensors[tensor].kept = kept
    net.tensors[2].num_planes, net.tensors[3].num_planes = by_channel, min(by_channel, 1)
    offset = 0
    for index in range(1, len(net.tensors)):
        shared = {5: 4, 7: 6, 10: None if picking else 9}.get(index)  # what add, activation and reshape may do in place
        net.tensors[index].gradient_offset = offset if shared is None else net.tensors[shared].gradient_offset
        offset += 0 if shared is not None else net.tensors[index].num_gradient_bytes
    net.layers[1].accumulate = (True, False)  # the addition has written d_1 already
    net.trained = {0: [0, 3, 5], 1: [1, 2, 7], 2: [0, 4, 6, 7], 3: [2], 5: [1, 5], 7: [0, 4], 10: [0, 2]}
    net.candidates = candidates
    if candidates:
        net.trained = {i: list(range(net.tensors[net.layers[i].output].shape[2])) for i in net.trained}
    net.settings["num_classes"] = 3
    return net


SPLIT = (0, 1, 3, 7, 10)  # layers of small_net that can be split: all that are trained but the depthwise ones


def samples(seed=1, count=6, num_classes=3, shape=(12, 10, 4)):
    """Images whose classes differ, and labels 0, 1, ..., 0, 1, ..."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(-90, 90, (num_classes, *shape))
    labels = np.arange(count) % num_classes
    images = np.clip(centres[labels] + rng.integers(-30, 31, (count, *shape)), -128, 127).astype(np.int8)
    return images, labels
