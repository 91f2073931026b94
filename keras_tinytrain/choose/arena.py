"""TensorFlow Lite Micro's arena on a 32-bit board: tensors and scratch as its planner lays them, and its bookkeeping."""

import dataclasses
from collections.abc import Iterable

from keras_tinytrain.choose import kernels
from keras_tinytrain.choose.kernels import Operator
from keras_tinytrain.tflm_runtime.rounding import align


@dataclasses.dataclass(frozen=True)
class Library:
    """A build of TensorFlow Lite Micro.

    Args:
        scratch: of its kernels.
        tensor_bytes: sizeof(TfLiteTensor), 32 where the build defines TF_LITE_STATIC_MEMORY.
        node_bytes: sizeof(NodeAndRegistration).
    """

    scratch: kernels.Scratch
    tensor_bytes: int = 32
    node_bytes: int = 32


KERNELS = {
    "reference": Library(kernels.reference),
    "cmsis-nn": Library(kernels.cmsis_nn),
    "arduino": Library(kernels.cmsis_nn_2023, tensor_bytes=64, node_bytes=44),
    "esp-nn": Library(kernels.esp_nn),
}
# Bytes that an operator keeps: what it reads of the model, and what it computes while it prepares. The larger of the library of
# 2023 and that of 2026, and of the reference kernels and CMSIS-NN: sizeof on a Cortex-M.
_KEPT = {
    "ADD": (4, 60),
    "AVERAGE_POOL_2D": (40, 36),
    "CONCATENATION": (8, 24),
    "CONV_2D": (28, 60),
    "DEPTHWISE_CONV_2D": (28, 60),
    "ELU": (0, 256),
    "FULLY_CONNECTED": (8, 72),
    "GATHER": (8, 20),
    "HARD_SWISH": (0, 20),
    "LEAKY_RELU": (4, 24),
    "LOGISTIC": (0, 16),
    "MAX_POOL_2D": (40, 36),
    "MEAN": (4, 44),
    "MUL": (4, 36),
    "PAD": (4, 64),
    "PRELU": (0, 28),
    "REDUCE_MAX": (4, 44),
    "RELU": (0, 28),
    "RELU6": (0, 28),
    "RESHAPE": (36, 20),
    "SOFTMAX": (4, 64),
    "SUB": (4, 52),
    "SUM": (4, 44),
    "TANH": (0, 16),
}
_KEPT_BY_OTHERS = (32, 96)
_FIXED_BYTES = 36 + 44 + 36 + 8 + 8  # its allocator, its planner, and the heads of its lists
_EVAL_TENSOR_BYTES, _QUANTISATION_BYTES = 12, 20  # of each tensor; of an input or output: scale and zero point
_INFO_BYTES, _PLANNED_BYTES, _REQUEST_BYTES, _MOST_REQUESTS = 24, 44, 12, 12  # while it plans: of a buffer, of a scratch buffer


@dataclasses.dataclass(frozen=True)
class MicroGraph:
    """A model as TensorFlow Lite Micro counts its memory.

    Args:
        activations: (bytes, first, last) in the order of the model: each is alive from moment `first` to moment `last`.
        operators: (moment at which it runs, operator), in execution order.
        num_tensors: activations and constants.
        num_inputs, num_outputs: tensors through which a caller reads and writes.
    """

    activations: tuple[tuple[int, int, int], ...]
    operators: tuple[tuple[int, Operator], ...]
    num_tensors: int
    num_inputs: int = 1
    num_outputs: int = 1

    @property
    def is_known(self) -> bool:
        """Whether the bytes of each of its operators are known."""
        return all(operator.kind in _KEPT for _, operator in self.operators)


def arena_bytes(graph: MicroGraph, library: Library) -> int:
    """Bytes of the arena in which the library prepares and runs a model; a multiple of 16.

    Either the tensors decide, beside all bookkeeping; or, of small tensors, the lists that it needs only while it plans.
    """
    scratch = [(align(size), moment, moment) for moment, op in graph.operators for size in library.scratch(op)]
    kept = _stacked([*_kept(graph, library), (4 * len(scratch), 4)])
    with_ends = _stacked([(kept, 1), *_ends(graph.num_inputs, library), *_ends(graph.num_outputs, library)])
    starting = max(_planning_bytes(graph, len(scratch)), _preparing_bytes(graph, library))
    starting += align(_REQUEST_BYTES * (len(scratch) + _MOST_REQUESTS) + 4)
    return max(align(with_ends) + placed_bytes((*graph.activations, *scratch)), align(kept) + align(starting))


def _planning_bytes(graph: MicroGraph, num_scratch: int) -> int:
    """Of the lists of buffers to place."""
    num_buffers = len(graph.activations) + num_scratch
    return align(_INFO_BYTES * (graph.num_tensors + num_scratch)) + _PLANNED_BYTES * num_buffers


def _preparing_bytes(graph: MicroGraph, library: Library) -> int:
    """Of the tensors that one operator looks at: input, kernel with a zero point for each channel, bias, output."""
    most_channels = max((operator.channels for _, operator in graph.operators), default=0)
    return 4 * (library.tensor_bytes + _QUANTISATION_BYTES) + 2 * 4 * most_channels


def _kept(graph: MicroGraph, library: Library) -> list[tuple[int, int]]:
    """(bytes, alignment) of all bookkeeping that is there before it plans, in the order in which it is taken."""
    operators = [operator for _, operator in graph.operators]
    kept = [_KEPT.get(operator.kind, _KEPT_BY_OTHERS) for operator in operators]
    lists = _EVAL_TENSOR_BYTES * graph.num_tensors + library.node_bytes * len(operators) + sum(read for read, _ in kept)
    computed = [size for _, size in kept] + 2 * [4 * operator.channels for operator in operators]  # multipliers and shifts
    return [(_FIXED_BYTES + lists, 4), *((size, 16) for size in computed if size)]


def _ends(count: int, library: Library) -> list[tuple[int, int]]:
    """(bytes, alignment) of a list of inputs or outputs, and of what each of them keeps."""
    return [(4 * count, 16), (count * (library.tensor_bytes + _QUANTISATION_BYTES), 4)]


def _stacked(buffers: Iterable[tuple[int, int]]) -> int:
    """Bytes that (bytes, alignment) take one below the other, from the arena's end."""
    total = 0
    for size, alignment in buffers:
        total = -(-(total + size) // alignment) * alignment
    return total


def placed_bytes(tensors: Iterable[tuple[int, int, int]]) -> int:
    """Bytes that all tensors take, which may be more than are alive at any one moment.

    The largest is placed first; of equal ones, the one that was announced last. Each takes the lowest offset where it overlaps
    no tensor that is alive together with it (GreedyMemoryPlanner).

    Args:
        tensors: (bytes, first, last) in the order of the model, in which they are announced: each is alive from moment `first`
            to moment `last`.

    Example:
        >>> placed_bytes([(2, 0, 1), (3, 1, 2), (2, 2, 3)])
        5
    """
    placed: list[tuple[int, int, int, int]] = []  # (offset, end, first, last)
    last_first = list(tensors)[::-1]
    for size, first, last in sorted(last_first, key=lambda tensor: -tensor[0]):
        offset = 0
        for begin, end, *_ in sorted(other for other in placed if other[2] <= last and first <= other[3]):
            if begin - offset >= size:
                break
            offset = max(offset, end)
        placed.append((offset, offset + size, first, last))
    return max((end for _, end, *_ in placed), default=0)
