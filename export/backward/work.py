"""Instructions and cycles of a backward pass, of a step of the weights and of solving a head on a Cortex-M4.

A layer pays for the products of its input's gradient and of its trained channels' gradients, as often as the gradient that
comes in is not zero: most kernels skip zeros. An activation clears half of a gradient, maximum pooling all but one value of a
window. The prices were measured layer by layer, in tasks of MCUNet, NanoNet, GestureNet and small networks of one and two
dimensions, with a profile.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

from keras_tinytrain.choose.forward_work import Work, products_inside
from keras_tinytrain.export.backward.graph import Tensor, TrainableGraph
from keras_tinytrain.export.backward.operators import NONE, Layer

Price = tuple[float, float]  # instructions and cycles

# Of a product.
_WINDOW_INPUT, _WINDOW_KERNEL = (8.7, 14.5), (9.5, 14.5)  # convolutions with a window; only of gradients that are not zero
_POINTWISE = (2.25, 3.75)  # zeros are not skipped
_PLANES = (3.4, 5.2)  # the 1 x 1 convolution before a depthwise one; only of gradients that are not zero
_SQUARE, _ROWS, _ANY = (4.3, 8.0), (3.5, 6.0), (6.0, 10.0)  # depthwise: small squares, rows of eight outputs, any other shape
# Of an element.
_COPIED = (22.0, 27.0)  # by a depthwise convolution by rows: 16 values of a row at a time, and those at their ends
_WINDOW_ROW = (45.0, 80.0)  # of a window, by one of any other shape
_WEIGHT = (6.0, 12.0)  # an int8 that becomes a float: once for all positions of a 1 x 1 convolution
_CLEARED, _CHECKED = (10.0, 13.0), (8.0, 11.0)  # a gradient at an activation; one that a kernel finds to be zero or not
_AVERAGED, _COMPARED, _PLACED = (9.0, 16.0), (20.0, 30.0), (40.0, 58.0)  # pooling: an input; of maxima an input and an output
_UNIFORM = (5.9, 11.4)  # of a 1 x 1 convolution whose gradient is the same at each position: a product of one, and its weight
_PASSED_ON = (8.0, 12.0)  # by any other operator
# Of a weight: its step by each optimizer, and more where it is rounded stochastically.
_STEP = {
    "sgd": (102.0, 205.0),
    "momentum": (109.0, 216.0),
    "adam": (153.0, 343.0),
    "adam_per_channel": (126.0, 263.0),
    "rmsprop": (134.0, 310.0),
}
_ROUNDED = (117.0, 170.0)
# Of solving the closed-form head: an element of a row of one sample; for two samples; for a sample and a class.
_ROW, _PAIR, _TARGET = (160.0, 272.0), (8.0, 13.6), (45.0, 76.0)
# In double, which the compiler's library computes: a product that is added; a quotient; an element of a kernel matrix, by part.
_DOUBLE, _QUOTIENT, _GRAM = (130.0, 170.0), (650.0, 744.0), (491.0, 687.0)
# Of the solution without one sample, in float: a product that is added; an element of its kernel matrix, by part.
_FLOAT, _LEFT_OUT = (7.1, 11.7), (98.0, 163.0)
_WIDTH = 8  # of a row
# (window, side, stride) of squares with code of their own: `SquareCode` in tinytrain/kernels/squares.cpp.
_SQUARES = {(3, 4, 1), (3, 6, 1), (3, 8, 1), (5, 4, 1), (5, 8, 1), (7, 4, 1), (7, 8, 1), (4, 6, 2), (6, 8, 2), (8, 8, 2)}
_SQUARES |= {(3, 3, 1)}


def backward_work(graph: TrainableGraph) -> Work:
    """Of one sample: from the head's input to the gradients of the trained weights."""
    return sum(_Pass(graph).layers(), Work())


def step_work(graph: TrainableGraph, optimizer: str, weights: str) -> Work:
    """Of one step of all trained weights.

    Args:
        optimizer, weights: as in `export.TrainingSettings`.
    """
    layers = ((graph.layers[each.layer], len(each.channels)) for each in graph.trained)
    count = sum(number * (layer.weights_per_channel + (layer.bias is not None)) for layer, number in layers)
    return _work(_STEP[optimizer], count) + _work(_ROUNDED, count * (weights == "int8"))


def solve_work(parts: Sequence[int], num_samples: int, num_classes: int) -> Work:
    """Of solving a closed-form head once, without its forward passes: for all samples, and for all but each (ridge.cpp).

    Args:
        parts: elements of a row's parts.
    """
    pairs = num_samples * (num_samples + 1) / 2
    of_rows = _work(_ROW, num_samples) + _work(_PAIR, pairs) + _work(_TARGET, num_samples * num_classes)
    factor = num_samples * (num_samples**2 - 1) / 6  # products of a Cholesky factor, of an inverse
    left_out_products = num_samples * (factor + 2 * pairs + num_samples * num_classes)
    products, quotients = 2 * (factor + num_classes * pairs), 2 * pairs
    return (
        of_rows * sum(parts)
        + _work(_FLOAT, left_out_products)
        + _work(_LEFT_OUT, len(parts) * num_samples * pairs)
        + _work(_DOUBLE, products)
        + _work(_QUOTIENT, quotients)
        + _work(_GRAM, len(parts) * pairs)
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Pass:
    """The layers of a graph with what flows between them."""

    graph: TrainableGraph

    def layers(self):
        """The work of each layer that a gradient reaches."""
        trained = {each.layer: len(each.channels) for each in self.graph.trained}
        for index, layer in enumerate(self.graph.layers):
            if self._flows(layer.output):
                yield self._input(layer) + self._kernel(layer, trained.get(index, 0)) + self._activation(layer)

    def _activation(self, layer: Layer) -> Work:
        output = self.graph.tensors[layer.output]
        return _work(_CLEARED, (layer.activation != "kLinear") * output.size * self._share(layer.output))

    def _input(self, layer: Layer) -> Work:
        """From the gradient of the output to those of the inputs."""
        if not any(map(self._flows, layer.inputs)):
            return Work()
        source, output = self.graph.tensors[layer.input], self.graph.tensors[layer.output]
        if layer.op == "kAveragePool2D":
            return _work(_AVERAGED, source.size)
        if layer.op == "kMaxPool2D":
            return _work(_COMPARED, source.size) + _work(_PLACED, output.size)
        if layer.op == "kDepthwiseConv2D":
            return self._depthwise(layer, source.channels * self._share(layer.input))
        if layer.kernel is None:
            return _work(_PASSED_ON, (layer.op != "kAdd") * output.size)
        products = self._products(layer, output.channels) * self._share(layer.input)
        weights = _work(_WEIGHT, source.channels * output.channels * self._share(layer.input))
        if output.num_planes:
            return _work(_PLANES, products * self._density(layer.output)) + weights
        if source.num_planes and layer.activation == "kLinear" and self._is_uniform(layer.output):
            return _work(_UNIFORM, products / (output.height * output.width))
        if _is_window(layer):
            return _work(_WINDOW_INPUT, products * self._density(layer.output)) + _work(_CHECKED, output.size)
        return _work(_POINTWISE, products) + weights

    def _kernel(self, layer: Layer, num_trained: int) -> Work:
        """From the gradient of the output to those of the trained channels."""
        source, output = self.graph.tensors[layer.input], self.graph.tensors[layer.output]
        if not num_trained:
            return Work()
        if layer.op == "kDepthwiseConv2D":
            return self._depthwise(layer, num_trained)
        products, density = self._products(layer, num_trained), self._density(layer.output)
        if output.num_planes:
            return _work(_PLANES, products * density) + _work(_WEIGHT, source.size * math.ceil(num_trained / output.num_planes))
        if _is_window(layer):
            return _work(_WINDOW_KERNEL, products * density) + _work(_CHECKED, output.size * num_trained / output.channels)
        return _work(_POINTWISE, products) + _work(_WEIGHT, source.size)

    def _products(self, layer: Layer, num_channels: float) -> float:
        """Of so many output channels with their weights, those with the padding left out."""
        source, output = self.graph.tensors[layer.input], self.graph.tensors[layer.output]
        depth = layer.weights_per_channel / math.prod(layer.kernel_size)
        return _positions(layer, source, output) * depth * num_channels

    def _depthwise(self, layer: Layer, num_channels: float) -> Work:
        """Of the input's gradient or the kernel's, which take about the same."""
        source, output = self.graph.tensors[layer.input], self.graph.tensors[layer.output]
        if _is_square(layer, source):
            return _work(_SQUARE, _positions(layer, source, output) * num_channels)
        if layer.strides != (1, 1) or max(layer.kernel_size) > _WIDTH:
            products = _positions(layer, source, output) * num_channels * self._density(layer.output)
            return _work(_ANY, products) + _work(_WINDOW_ROW, products / layer.kernel_size[1])
        rows, taps = output.height * num_channels, math.prod(layer.kernel_size)
        copied = math.ceil(output.width / (2 * _WIDTH)) * (2 * _WIDTH + layer.kernel_size[1] - 1)
        return _work(_ROWS, rows * math.ceil(output.width / _WIDTH) * _WIDTH * taps) + _work(_COPIED, rows * copied)

    def _flows(self, tensor: int) -> bool:
        return self.graph.tensors[tensor].gradient_offset != NONE

    def _is_uniform(self, tensor: int, num_sums: int = 1) -> bool:
        """Whether its gradient is the same at each position, as `Pass::IsUniform` finds."""
        readers = [layer for layer in self.graph.layers if tensor in layer.inputs]
        return bool(readers) and all(self._is_mean_or_sum_of_such(reader, num_sums) for reader in readers)

    def _is_mean_or_sum_of_such(self, reader: Layer, num_sums: int) -> bool:
        source = self.graph.tensors[reader.input]
        if reader.op == "kAveragePool2D":
            return reader.kernel_size == (source.height, source.width) and reader.pads == (0, 0)
        is_sum = num_sums > 0 and reader.op == "kAdd" and reader.activation == "kLinear"
        return is_sum and self._is_uniform(reader.output, num_sums - 1)

    def _producer(self, tensor: int) -> int | None:
        return next((index for index, layer in enumerate(self.graph.layers) if layer.output == tensor), None)

    def _share(self, tensor: int) -> float:
        """Of the tensor's channels, those whose gradients are computed: in a bottleneck's interior, what training needs."""
        if not self.graph.tensors[tensor].num_planes or (producer := self._producer(tensor)) is None:
            return 1.0
        layer = self.graph.layers[producer]
        trained = next((len(each.channels) for each in self.graph.trained if each.layer == producer), 0)
        goes_on = self._share(layer.input) if self._flows(layer.input) else 0.0
        return max(goes_on, trained / self.graph.tensors[tensor].channels)

    @functools.cache  # noqa: B019
    def _density(self, tensor: int) -> float:
        """The share of a gradient that is not zero, once it has passed back through the activation of its own layer."""
        producer = self._producer(tensor)
        clears = producer is not None and self.graph.layers[producer].activation != "kLinear"
        readers = [layer for layer in self.graph.layers if tensor in layer.inputs]
        return min(1.0, sum(self._left(layer, clears) for layer in readers)) if readers else 0.5 if clears else 1.0

    def _left(self, reader: Layer, clears: bool) -> float:
        """The part of it that comes from one layer. A maximum is cleared only where its whole window is."""
        if reader.op == "kMaxPool2D":
            size = math.prod(reader.kernel_size)
            return self._density(reader.output) / size * (1 - 0.5**size if clears else 1.0)
        whole = reader.kernel is not None or reader.op == "kAveragePool2D"
        return (1.0 if whole else self._density(reader.output)) * (0.5 if clears else 1.0)


def _work(price: Price, count: float) -> Work:
    return Work(round(price[0] * count), round(price[1] * count))


def _is_window(layer: Layer) -> bool:
    return layer.op == "kConv2D" and (layer.kernel_size, layer.strides) != ((1, 1), (1, 1))


def _is_square(layer: Layer, source: Tensor) -> bool:
    (window, width), (stride, _) = layer.kernel_size, layer.strides
    return window == width and source.height == source.width and (window, source.width, stride) in _SQUARES


def _positions(layer: Layer, source: Tensor, output: Tensor) -> int:
    """Products of one input channel with one window, those with the padding left out."""
    if layer.op in ("kDense", "kDenseAlong"):
        return output.height * output.width
    sizes = (source.height, source.width), (output.height, output.width)
    return math.prod(map(products_inside, *sizes, layer.kernel_size, layer.strides, layer.pads))
