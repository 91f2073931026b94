"""Read, write and cut .tflite files, by the classes that TensorFlow has generated from their schema."""

import copy
import functools
import struct

import flatbuffers
import numpy as np

from keras_tinytrain.export.tflite._schema import schema

BUILTIN_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
TENSOR_TYPES = {schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32, schema.TensorType.FLOAT32: np.float32}
_FILE_ID = b"TFL3"


def read_model(model_bytes: bytes) -> schema.ModelT:
    """The model as a tree of Python objects. Raises ValueError where the bytes are no .tflite file."""
    if model_bytes[4:8] != _FILE_ID:
        raise ValueError(f"Expected the bytes of a .tflite file. Received bytes that begin with {model_bytes[:8]!r}")
    try:
        return schema.ModelT.InitFromPackedBuf(model_bytes, 0)
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError, struct.error) as error:
        raise ValueError(f"The .tflite file is damaged: {str(error)[:200]}") from error


def write_model(model: schema.ModelT) -> bytes:
    """The inverse of `read_model`; equal vectors are written once.

    Constants are aligned to 16 bytes: the schema asks for it, Python's writer does not do it.
    """
    model.buffers = [_AlignedBuffer(buffer.data) for buffer in model.buffers]
    builder = _SharingBuilder(1024)
    builder.Finish(model.Pack(builder), _FILE_ID)
    return bytes(builder.Output())


def operator_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """Such as "CONV_2D"."""
    code = model.operatorCodes[operator.opcodeIndex]
    return BUILTIN_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]


@functools.lru_cache(maxsize=16)
def operator_names(model_bytes: bytes | None) -> frozenset[str]:
    """Names of the operators of a .tflite file; empty where there is none."""
    if model_bytes is None:
        return frozenset()
    model = read_model(model_bytes)
    return frozenset(operator_name(model, operator) for operator in model.subgraphs[0].operators)


def constant(model: schema.ModelT, tensor_index: int) -> np.ndarray | None:
    """The value of a constant tensor; None where it is computed, or where the index says "no such tensor" (-1)."""
    if tensor_index < 0:
        return None
    tensor = model.subgraphs[0].tensors[tensor_index]
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0:
        return None
    return np.frombuffer(bytes(data), TENSOR_TYPES[tensor.type]).reshape(tensor.shape)


def known(model: schema.ModelT, tensor_index: int) -> np.ndarray:
    """The value of a tensor that must be constant. Raises ValueError where it is computed."""
    value = constant(model, tensor_index)
    if value is None:
        raise ValueError(f"Tensor {tensor_index} of the .tflite file is expected to be constant, and it is computed.")
    return value


def quantisation(model: schema.ModelT, tensor_index: int) -> tuple[np.ndarray, np.ndarray]:
    """(scales float32, zero points int64): one of each, or one per channel. Empty where the tensor is not quantised."""
    parameters = model.subgraphs[0].tensors[tensor_index].quantization
    if parameters is None or parameters.scale is None:
        return np.zeros(0, np.float32), np.zeros(0, np.int64)
    return np.asarray(parameters.scale, np.float32), np.asarray(parameters.zeroPoint, np.int64)


def shape_of(model: schema.ModelT, tensor_index: int) -> tuple[int, ...]:
    """Shape of a tensor, batch included, as Python integers: the file's are int32, and their products overflow."""
    return tuple(int(size) for size in model.subgraphs[0].tensors[tensor_index].shape)


def activation_shape(model: schema.ModelT, tensor_index: int) -> tuple[int, ...]:
    """The shape of an activation without its batch axis of 1, which a dense layer that ends a Reshape does not have."""
    shape = shape_of(model, tensor_index)
    return shape[1:] if shape[0] == 1 else shape


def tensor_name(model: schema.ModelT, tensor_index: int) -> str:
    return model.subgraphs[0].tensors[tensor_index].name.decode()


def part_of(model: schema.ModelT, operators: list[int], inputs: list[int], outputs: list[int]) -> bytes:
    """A model of some operators of another.

    Args:
        model: a model of one subgraph.
        operators: indices of the operators to keep, in execution order.
        inputs: tensor indices (of `model`) that the part reads.
        outputs: tensor indices that it computes, in the order of its outputs.

    Returns:
        The bytes of a stock .tflite file without signatures, whose unused tensors, buffers and operator codes are gone.
    """
    new_index = part_tensors(model, operators, inputs, outputs)
    part, graph = copy.copy(model), copy.copy(model.subgraphs[0])
    part.subgraphs = [graph]
    graph.operators = [copy.copy(graph.operators[index]) for index in operators]
    graph.tensors = [copy.copy(graph.tensors[old]) for old in new_index if old >= 0]
    for operator in graph.operators:
        operator.inputs = [new_index[int(tensor)] for tensor in operator.inputs]
        operator.outputs = [new_index[int(tensor)] for tensor in operator.outputs]
    graph.inputs, graph.outputs = [new_index[t] for t in inputs], [new_index[t] for t in outputs]
    _drop_unused(part)
    return write_model(part)


def part_tensors(model: schema.ModelT, operators: list[int], inputs: list[int], outputs: list[int]) -> dict[int, int]:
    """{index of a tensor in `model`: its index in `part_of(model, operators, inputs, outputs)`}, ascending; -1 stays -1."""
    used = {-1, *inputs, *outputs}
    for operator in (model.subgraphs[0].operators[index] for index in operators):
        used.update(int(tensor) for tensor in (*operator.inputs, *operator.outputs))
    return {old: new - 1 for new, old in enumerate(sorted(used))}


def constant_offset(model_bytes: bytes, tensor_index: int) -> int:
    """Where in the file the value of a constant tensor begins."""
    model = schema.Model.GetRootAs(model_bytes, 0)
    buffer = model.Buffers(model.Subgraphs(0).Tensors(tensor_index).Buffer())
    start = buffer._tab.Vector(buffer._tab.Offset(4))  # field 0 of table Buffer: data
    if not buffer.DataLength():
        raise ValueError(f"Tensor {tensor_index} is no constant: only constants lie in the file.")
    return int(start)


def unshare_constants(model: schema.ModelT, tensor_indices: list[int]) -> None:
    """Give each of these constants a buffer of its own, so that it can be replaced alone.

    The converter stores equal constants once: biases that are all zero, for instance.
    """
    for index in tensor_indices:
        tensor = model.subgraphs[0].tensors[index]
        model.buffers.append(copy.copy(model.buffers[tensor.buffer]))
        tensor.buffer = len(model.buffers) - 1


def _drop_unused(model: schema.ModelT) -> None:
    """Buffers, operator codes and metadata that nothing refers to any more."""
    graph = model.subgraphs[0]
    model.signatureDefs = model.metadataBuffer = model.metadata = None
    for tensor in graph.tensors:
        tensor.shapeSignature = None
    buffers = {0: 0}  # buffer 0 is empty by convention
    for tensor in graph.tensors:
        tensor.buffer = buffers.setdefault(tensor.buffer, len(buffers))
    model.buffers = [model.buffers[old] for old in buffers]
    codes: dict[int, int] = {}
    for operator in graph.operators:
        operator.opcodeIndex = codes.setdefault(operator.opcodeIndex, len(codes))
    model.operatorCodes = [model.operatorCodes[old] for old in codes]


class _SharingBuilder(flatbuffers.Builder):
    """A builder that writes equal vectors once: a zero point of each channel, which is 0 in every layer, takes 8 bytes."""

    def __init__(self, size: int):
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        key = x.dtype.str, x.tobytes()
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]


class _AlignedBuffer(schema.BufferT):
    """A buffer whose data begin on a multiple of 16 bytes."""

    def __init__(self, data: np.ndarray | bytes | None):
        super().__init__()
        self.data = data

    def Pack(self, builder: flatbuffers.Builder) -> int:
        data = b"" if self.data is None else bytes(bytearray(self.data))
        if data:
            builder.StartVector(1, len(data), 16)
            builder.head -= len(data)
            builder.Bytes[builder.head : builder.head + len(data)] = data
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if data:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)
