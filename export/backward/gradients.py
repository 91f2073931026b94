"""Where the gradients of activations lie: which exist some channels at a time, and at which offsets they do not overlap.

Tensors are numbered as in `graph.TrainableGraph.tensors`, layers stand in execution order.
"""

from keras_tinytrain.choose.lifetimes import planes_at_once
from keras_tinytrain.export.backward.memory import Span, place

NONE = -1  # kNone in tinytrain_tables.h
_ELEMENTWISE = ("kAdd", "kActivation", "kReshape")  # backward, d_input may lie where d_output lies


def middles(layers, shapes, with_gradient):
    """{tensor: channels at a time}: in the middle of an inverted bottleneck gradients can be taken by channel.

    Backwards from a 1 x 1 convolution to the depthwise convolution right before it, and where the gradient goes on, to the
    1 x 1 convolution right before that. Nothing else may read what lies between them, and the gradient that goes on is whole:
    where one depthwise separable layer follows the other, every second one makes such a middle.
    """
    readers = [[index for index, layer in enumerate(layers) if tensor in layer.inputs] for tensor in range(len(shapes))]

    def is_pointwise(layer):
        same_size = shapes[layer.input][:-1] == shapes[layer.output][:-1]
        return layer.op == "kConv2D" and (layer.kernel_size, layer.strides) == ((1, 1), (1, 1)) and same_size

    middles = {}
    for index in range(1, len(layers)):
        project, depthwise = layers[index], layers[index - 1]
        behind, before = depthwise.output, depthwise.input
        if depthwise.op != "kDepthwiseConv2D" or behind not in with_gradient:
            continue
        if project.input != behind or not is_pointwise(project) or readers[behind] != [index]:
            continue
        if before not in with_gradient:
            middles[behind] = 1
            continue
        expand = layers[index - 2] if index > 1 and layers[index - 2].output == before else None
        if expand and is_pointwise(expand) and len(readers[before]) == 1 and expand.input not in middles:
            middles |= {behind: 1, before: planes_at_once(shapes[before])}
    return middles


def place_gradients(layers, sizes, with_gradient, by_channel):
    """(offset of each tensor's gradient or NONE, bytes in all, lower bound).

    The gradient of a tensor is alive from the step that writes it first (its last reader) to the step that reads it (its
    producer). Backwards through an elementwise layer, d_output turns into d_input where it lies. The layers of a block that
    goes by channel take one step together.
    """
    head = len(sizes) - 1
    buffer_of, first, last = {head: head}, {head: -1}, {}  # tensor: the tensor whose buffer it shares; steps per buffer
    step = -1
    for layer in reversed(layers):
        if layer.output not in with_gradient:
            continue
        step += layer.output not in by_channel
        buffer = buffer_of[layer.output]
        last[buffer] = step
        in_place = layer.op in _ELEMENTWISE and layer.input != layer.input2
        for tensor, accumulate in zip(layer.inputs, (layer.accumulate_input, layer.accumulate_input2)):
            if tensor in with_gradient and not accumulate:
                buffer_of[tensor] = buffer if in_place else tensor
                first.setdefault(buffer_of[tensor], step)
                in_place = False
    buffers = sorted(first)
    offsets, total, bound = place([Span(4 * sizes[buffer], first[buffer], last[buffer]) for buffer in buffers])
    offset_of = dict(zip(buffers, offsets))
    return [offset_of[buffer_of[t]] if t in buffer_of else NONE for t in range(len(sizes))], total, bound
