"""The network of the tests, small and with every operator, and samples for it."""

import numpy as np

from tests.runtime.int8_net import NONE, STORED_SAMPLE, Layer, Net, Tensor


def small_net(head="prototypes", seed=0, by_channel=0, picking=False, candidates=()):
    """Convolution, an inverted bottleneck with a residual, a strided convolution, pooling, reshape and dense: every operator
    that the runtime knows, both activations, gradients that accumulate, and two that change places in one buffer. With
    `by_channel`, the bottleneck's interior goes backwards so many channels at a time. With `picking`, LeakyReLU, max
    pooling and padding take the place of ReLU, average pooling and reshape."""
    rng = np.random.default_rng(seed)
    net = Net(head=head)
    inputs = rng.integers(-128, 128, (6, 6, 5, 4), np.int8)
    net.tensors.append(Tensor((6, 5, 4), 0.05, 3, kept=STORED_SAMPLE))

    def add(op, shape, source=None, source2=NONE, activation="linear", window=(1, 1, 1, 1, 0, 0), bias=True, slope=0.0):
        source = len(net.tensors) - 1 if source is None else source
        layer = Layer(op, source, len(net.tensors), activation, source2, window, slope=slope)
        index = len(net.layers)
        net.layers.append(layer)
        previous = net.tensors[source]
        net.tensors.append(Tensor(shape, previous.scale, previous.zero_point))
        if op in ("conv", "depthwise", "dense"):
            kernel_shape = {
                "conv": (shape[2], *window[:2], previous.shape[2]),
                "depthwise": (*window[:2], shape[2]),
                "dense": (shape[2], int(np.prod(previous.shape))),
            }[op]
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
            if layer.op == "leaky":
                real = np.where(real > 0, real, layer.slope * real)
            if layer.activation != "linear":
                real = np.clip(real, 0, 6 if layer.activation == "relu6" else None)
            lowest, highest = min(lowest, real.min()), max(highest, real.max())
        output.scale = float(np.float32(max(highest - lowest, 0.1) / 255))
        output.zero_point = int(np.clip(round(-128 - lowest / output.scale), -128, 127))

    add("conv", (6, 5, 6), window=(3, 3, 1, 1, 1, 1))  # 0 -> 1
    add("conv", (6, 5, 8), activation="relu6")  # 1 -> 2
    add("depthwise", (6, 5, 8), activation="relu6", window=(3, 3, 1, 1, 1, 1))  # 2 -> 3
    add("conv", (6, 5, 6), bias=False)  # 3 -> 4
    add("add", (6, 5, 6), source2=1, activation="relu")  # 4, 1 -> 5
    add("depthwise", (3, 3, 6), window=(5, 3, 2, 2, 2, 1))  # 5 -> 6
    if picking:
        add("leaky", (3, 3, 6), slope=0.3)  # 6 -> 7
    else:
        add("activation", (3, 3, 6), activation="relu")  # 6 -> 7
    add("conv", (2, 2, 5), window=(3, 2, 2, 2, 1, 0))  # 7 -> 8
    if picking:
        add("max", (2, 2, 5), window=(2, 2, 1, 1, 1, 1))  # 8 -> 9
        add("pad", (3, 4, 5), window=(1, 1, 1, 1, 1, 0))  # 9 -> 10
    else:
        add("pool", (1, 1, 5), window=(2, 2, 1, 1, 0, 0))  # 8 -> 9
        add("reshape", (1, 1, 5))  # 9 -> 10
    add("dense", (1, 1, 7 if head == "prototypes" else 3), activation="linear")  # 10 -> 11

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
