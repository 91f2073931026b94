"""What the backward pass needs: which tensors have a gradient, which values it reads, and where gradients lie.

The functions work on a small view of a network, its `Step`s. A layer table gives that view before anything is exported
(`table_steps`), and an exported graph gives it exactly (`export.backward.graph`). Tensors have numbers of the caller's choice.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from keras_tinytrain.choose.placement import Span, place
from keras_tinytrain.tflm_runtime.headers import constant

_MAX_PLANES = constant("tinytrain_tables.h", "kMaxPlanes")
_MAX_PLANE_FLOATS = 1024  # 4 KB

Shapes = Mapping[int, tuple[int, ...]]  # of tensors, channels last, without the batch axis


@dataclasses.dataclass(frozen=True)
class Step:
    """One operator of the forward pass, as far as the backward pass depends on it.

    Args:
        inputs, output: tensors.
        trained: it has weights that are trained.
        reads_input: its backward step reads the input's values: max pooling, to find the maximum again.
        reads_output: its backward step reads the output's values: a ReLU, to know where it is open.
        reads_other: it has two inputs, and the gradient of each reads the values of the other: a product.
        elementwise: the gradient of its first input may lie where the gradient of its output lies.
        depthwise: a depthwise convolution.
        pointwise: a 1 x 1 convolution that keeps height and width.
    """

    inputs: tuple[int, ...]
    output: int
    trained: bool = False
    reads_input: bool = False
    reads_output: bool = False
    reads_other: bool = False
    elementwise: bool = False
    depthwise: bool = False
    pointwise: bool = False


@dataclasses.dataclass(frozen=True)
class Gradients:
    """Where the float32 gradients of tensors lie, in bytes.

    Args:
        offsets: {tensor: offset} of every tensor that has a gradient.
        num_bytes: of all.
        bound: the most bytes alive at one step; no arrangement takes less.
    """

    offsets: dict[int, int]
    num_bytes: int
    bound: int


def with_gradient(steps: Sequence[Step]) -> set[int]:
    """Tensors that a gradient flows into: outputs of trained steps, and all that depends on them."""
    tensors: set[int] = set()
    for step in steps:
        if step.trained or tensors.intersection(step.inputs):
            tensors.add(step.output)
    return tensors


def values_read(steps: Sequence[Step]) -> set[int]:
    """Tensors whose values the backward pass reads, so that the forward pass must keep them."""
    flows = with_gradient(steps)
    inputs = {step.inputs[0] for step in steps if step.trained or (step.reads_input and step.inputs[0] in flows)}
    outputs = {step.output for step in steps if step.reads_output and step.output in flows}
    return inputs | outputs | {other for step in steps if step.reads_other for other in _others(step, flows)}


def _others(step: Step, flows: set[int]) -> set[int]:
    """The inputs of a product that the gradients of the others read."""
    first, second = step.inputs
    return {other for tensor, other in ((first, second), (second, first)) if tensor in flows}


def interiors(steps: Sequence[Step], shapes: Shapes) -> dict[int, int]:
    """{tensor: channels whose gradients exist at a time} of tensors in the interior of an inverted bottleneck.

    The backward pass goes from a 1 x 1 convolution to the depthwise convolution right before it and, where the gradient goes
    on, to the 1 x 1 convolution right before that. Nothing else may read the tensors between them, and the gradient that goes
    on is whole: where one depthwise separable layer follows the other, every second one has such an interior.
    """
    flows, found = with_gradient(steps), dict[int, int]()
    steps = [step for step in steps if step.output in flows]
    readers = {tensor: [step for step in steps if tensor in step.inputs] for tensor in flows}
    for index in range(1, len(steps)):
        depthwise, project = steps[index - 1 : index + 1]
        if not (depthwise.depthwise and project.pointwise and readers[depthwise.output] == [project]):
            continue
        before = depthwise.inputs[0]
        if before not in flows:
            found[depthwise.output] = 1
            continue
        expand = steps[index - 2]
        is_expansion = index > 1 and expand.pointwise and expand.output == before and readers[before] == [depthwise]
        if is_expansion and expand.inputs[0] not in found:
            found |= {depthwise.output: 1, before: planes_at_once(shapes[before])}
    return found


def planes_at_once(shape: tuple[int, ...]) -> int:
    """Channels of a depthwise convolution's input, in a bottleneck's interior, whose gradients exist at a time.

    The 1 x 1 convolution before it makes each int8 input or weight a float once for all of them. They take 4 KB at most, and
    a quarter of the tensor.

    Args:
        shape: (height, width, channels).
    """
    return max(1, min(_MAX_PLANES, shape[-1] // 4, _MAX_PLANE_FLOATS // math.prod(shape[:-1])))


def place_gradients(steps: Sequence[Step], shapes: Shapes, planes: Mapping[int, int]) -> Gradients:
    """Place the gradients of a network whose last step's output is the head's input.

    A tensor's gradient is alive from the backward step that writes it first (its last reader) to the one that reads it (its
    producer). Backwards through an elementwise step, d_output turns into d_input in its place. The steps of a bottleneck
    whose interior goes by channel are taken as one.

    Args:
        planes: {tensor: channels at a time}, see `interiors`; all other gradients are whole.
    """
    flows, head = with_gradient(steps), steps[-1].output
    buffer_of, first, last = {head: head}, {head: -1}, dict[int, int]()  # the tensor whose buffer it shares; by buffer
    now = -1
    for step in reversed(steps):
        if step.output not in flows:
            continue
        now += step.output not in planes
        buffer = buffer_of[step.output]
        last[buffer] = now
        in_place = step.elementwise and step.inputs[1:] != step.inputs[:1]
        for tensor in step.inputs:
            if tensor in flows and tensor not in buffer_of:
                buffer_of[tensor] = buffer if in_place else tensor
                first.setdefault(buffer_of[tensor], now)
                in_place = False
    buffers = sorted(first)
    sizes = {tensor: math.prod((*shapes[tensor][:-1], planes.get(tensor, shapes[tensor][-1]))) for tensor in buffers}
    offsets, num_bytes, bound = place([Span(4 * sizes[buffer], first[buffer], last[buffer]) for buffer in buffers])
    offset_of = dict(zip(buffers, offsets))
    return Gradients({tensor: offset_of[buffer] for tensor, buffer in buffer_of.items()}, num_bytes, bound)
