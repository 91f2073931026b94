"""A network of the operators that `small_net` has not: products, parts, and activations whose derivative reads kept values."""

import numpy as np

from tests.runtime.int8_net import NONE, STORED_SAMPLE, Layer, Net, Tensor

HEIGHT, WIDTH = 6, 5
MAP, WINDOW = (HEIGHT, WIDTH), (1, 1, 1, 1, 0, 0)
SIXTEENTH, UNIT, SIGNED, HUNDREDTH = (1 / 16, 0), (1 / 256, -128), (1 / 128, 0), (0.01, 0)  # scale, zero point


def gated_net(seed=0):
    """Hard swish, tanh, PReLU, Concatenate, squeeze and excite with a sigmoid, a scale, ELU, dense layers along and over it."""
    rng = np.random.default_rng(seed)
    net = Net(tensors=[Tensor((*MAP, 4), 0.02, 3, kept=STORED_SAMPLE)])

    def add(op, channels, grid, *, source=None, source2=NONE, size=MAP, window=WINDOW, slope=0.0):
        source = len(net.tensors) - 1 if source is None else source
        layer = Layer(op, source, len(net.tensors), input2=source2, window=window, slope=slope)
        previous = net.tensors[source].shape
        if op in ("conv", "along", "dense"):
            kernel_shape = {"conv": (*window[:2], previous[2]), "along": (previous[2],), "dense": (int(np.prod(previous)),)}[op]
            layer.kernel = rng.integers(-127, 128, (channels, *kernel_shape), np.int8)
            layer.scales = np.full(channels, 0.02 / np.sqrt(np.prod(kernel_shape)), np.float32)
            layer.bias = rng.integers(-200, 200, channels, np.int32)
        if op == "prelu":
            layer.scales = rng.uniform(0, 0.6, channels).astype(np.float32)
        net.layers.append(layer)
        net.tensors.append(Tensor((*size, channels), float(np.float32(grid[0])), grid[1]))

    add("conv", 6, SIXTEENTH, window=(3, 3, 1, 1, 1, 1))  # 0 -> 1
    add("hard_swish", 6, SIXTEENTH)  # 1 -> 2
    add("conv", 4, HUNDREDTH)  # 2 -> 3
    add("tanh", 4, SIGNED)  # 3 -> 4
    add("prelu", 4, SIGNED)  # 4 -> 5
    add("concatenate", 10, SIXTEENTH, source=2, source2=5)  # 2, 5 -> 6
    add("pool", 10, SIXTEENTH, size=(1, 1), window=(*MAP, 1, 1, 0, 0))  # 6 -> 7
    add("dense", 10, HUNDREDTH, size=(1, 1))  # 7 -> 8
    add("logistic", 10, UNIT, size=(1, 1))  # 8 -> 9
    add("multiply", 10, HUNDREDTH, source=6, source2=9)  # 6, 9 -> 10
    add("scale", 10, HUNDREDTH, slope=1.5)  # 10 -> 11
    add("elu", 10, HUNDREDTH)  # 11 -> 12
    add("along", 3, HUNDREDTH)  # 12 -> 13
    add("reshape", HEIGHT * WIDTH * 3, HUNDREDTH, size=(1, 1))  # 13 -> 14
    add("dense", 7, HUNDREDTH, size=(1, 1))  # 14 -> 15
    for kept, tensor in enumerate((1, 2, 4, 5, 6, 7, 9, 12, 14, 15)):
        net.tensors[tensor].kept = kept
    in_place = {2: 1, 4: 3, 9: 8, 12: 11, 14: 13}  # hard swish, tanh, sigmoid, ELU, reshape
    offset = 0
    for index, tensor in enumerate(net.tensors[1:], start=1):
        shared = in_place.get(index)
        tensor.gradient_offset = offset if shared is None else net.tensors[shared].gradient_offset
        offset += 0 if shared else tensor.num_gradient_bytes
    net.layers[2].accumulate = net.layers[6].accumulate = (True, False)  # after concatenation, and after the product
    net.trained = {0: [0, 3, 5], 2: [1, 2], 7: [0, 4, 9], 12: [2], 14: [0, 6]}
    net.settings["num_classes"] = 3
    return net
