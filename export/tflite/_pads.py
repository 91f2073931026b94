"""Let strided convolutions pad by themselves: symmetric padding at stride 2 is a copy of the network's largest tensor.

TensorFlow's "same" pads (ceil(n / s) - 1) * s + k - n in all, the smaller half first. At stride 2 and even n that is one less
than the symmetric padding of a convolution with odd kernel k. With one more trailing row and column of zeros in the kernel,
"same" pads symmetrically; the zeros cancel what they meet, so that outputs stay the same bit for bit. It costs
(k + 1)^2 / k^2 multiply-accumulates in those few layers, and saves their PAD.
"""

import copy

import numpy as np

from keras_tinytrain.export.tflite import flatbuffer as fb

_SAME, _VALID = 0, 1


def absorb_pads(model: fb.schema.ModelT, keep: set[int]) -> list[int]:
    """Take the PAD operators that its convolutions do not need out of an int8 model.

    Args:
        model: the int8 model; it is changed.
        keep: indices of operators whose kernels must stay as they are, because they are trained.

    Returns:
        Indices of the operators that stay, as they were.
    """
    graph, absorbed = model.subgraphs[0], set()
    for index, pad in enumerate(graph.operators):
        if fb.operator_name(model, pad) != "PAD" or int(pad.outputs[0]) in [int(t) for t in graph.outputs]:
            continue
        readers = [i for i, operator in enumerate(graph.operators) if pad.outputs[0] in operator.inputs]
        kernels = {reader: _padded_kernel(model, pad, graph.operators[reader]) for reader in readers if reader not in keep}
        padded = {reader: kernel for reader, kernel in kernels.items() if kernel is not None}
        if len(padded) < len(readers):
            continue
        for reader, kernel in padded.items():
            _pad_by_itself(model, graph.operators[reader], kernel, source=int(pad.inputs[0]))
        absorbed.add(index)
    kept = [index for index in range(len(graph.operators)) if index not in absorbed]
    graph.operators = [graph.operators[index] for index in kept]
    return kept


def _padded_kernel(model: fb.schema.ModelT, pad: fb.schema.OperatorT, reader: fb.schema.OperatorT) -> np.ndarray | None:
    """The kernel with which `reader` pads as `pad` does by padding "same"; None where there is no such kernel."""
    if fb.operator_name(model, reader) not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return None
    options, paddings = reader.builtinOptions, fb.known(model, pad.inputs[1])
    if options.padding != _VALID or (options.dilationHFactor, options.dilationWFactor) != (1, 1) or paddings[[0, 3]].any():
        return None
    kernel = fb.known(model, reader.inputs[1])
    more = [(0, 0)]
    for axis, stride in ((1, options.strideH), (2, options.strideW)):
        size, outputs = (fb.shape_of(model, tensor)[axis] for tensor in (pad.inputs[0], reader.outputs[0]))
        extra = [e for e in (0, 1) if _same_pads(size, kernel.shape[axis] + e, stride) == (outputs, int(paddings[axis, 0]))]
        if not extra:
            return None
        more.append((0, extra[0]))
    return np.pad(kernel, [*more, (0, 0)])


def _same_pads(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """(output size, padding before) of padding "same"."""
    outputs = -(-size // stride)
    return outputs, max((outputs - 1) * stride + kernel_size - size, 0) // 2


def _pad_by_itself(model: fb.schema.ModelT, operator: fb.schema.OperatorT, kernel: np.ndarray, *, source: int) -> None:
    graph = model.subgraphs[0]
    tensor = copy.copy(graph.tensors[operator.inputs[1]])
    tensor.shape, tensor.buffer = list(kernel.shape), len(model.buffers)
    buffer = copy.copy(model.buffers[0])
    buffer.data = kernel.tobytes()
    model.buffers.append(buffer)
    graph.tensors.append(tensor)
    operator.inputs = [source, len(graph.tensors) - 1, *(int(t) for t in operator.inputs[2:])]
    operator.builtinOptions.padding = _SAME
