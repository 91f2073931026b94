"""Operators that TensorFlow's converter leaves in float32, and that TensorFlow Lite Micro computes in int8, become int8."""

import copy
from collections.abc import Iterator

from keras_tinytrain.export.tflite import flatbuffer as fb

_INT8_IN_TFLM = ("ELU",)  # by a table of all 256 answers, as the converter would have asked for
_JOINS = ("CONCATENATION",)  # the converter leaves what joins a float tensor in float32, too


def without_islands(model_bytes: bytes) -> bytes:
    """The same model without float32 between DEQUANTIZE and QUANTIZE, where an operator of `_INT8_IN_TFLM` is the reason.

        DEQUANTIZE, ELU, QUANTIZE                                     ->  ELU
        {DEQUANTIZE, ELU} and {DEQUANTIZE}, CONCATENATION, QUANTIZE   ->  {ELU} and {QUANTIZE}, CONCATENATION

    An operator of the island computes on the grid that its QUANTIZE had; a DEQUANTIZE of another grid becomes a QUANTIZE to it.
    """
    island = _Islands(fb.read_model(model_bytes))
    return island.converted() or model_bytes


class _Islands:
    """Float32 parts of a model, by their ends."""

    def __init__(self, model: fb.schema.ModelT) -> None:
        self.model, self.graph = model, model.subgraphs[0]
        self.producer = {int(tensor): operator for operator in self.graph.operators for tensor in operator.outputs}

    def converted(self) -> bytes | None:
        """The file with islands in int8; None where there are none."""
        ends = [end for end in self.graph.operators if self._kind(end) == "QUANTIZE" and self._is_island(int(end.inputs[0]))]
        for end in ends:
            self._to_int8(int(end.inputs[0]), end, end.outputs[0])
        if not ends:
            return None
        read = {int(tensor) for operator in self._without(ends) for tensor in operator.inputs} | {*map(int, self.graph.outputs)}
        kept = [index for index, each in enumerate(self.graph.operators) if not self._is_idle(each, ends, read)]
        return fb.part_of(self.model, kept, [*map(int, self.graph.inputs)], [*map(int, self.graph.outputs)])

    def _kind(self, operator):
        return fb.operator_name(self.model, operator)

    def _without(self, ends: list[fb.schema.OperatorT]) -> Iterator[fb.schema.OperatorT]:
        return (each for each in self.graph.operators if not any(each is end for end in ends))

    def _is_idle(self, operator, ends, read):
        is_end = any(operator is end for end in ends)
        return is_end or (self._kind(operator) == "DEQUANTIZE" and int(operator.outputs[0]) not in read)

    def _is_island(self, tensor):
        """Whether what computes a float tensor can be int8: it holds an operator of `_INT8_IN_TFLM`, and nobody else reads it."""
        kinds = list(self._kinds(tensor))
        return None not in kinds and any(kind in _INT8_IN_TFLM for kind in kinds)

    def _kinds(self, tensor: int) -> Iterator[str | None]:
        """Names of the operators from the DEQUANTIZEs to `tensor`; None for one that stays as it is."""
        if tensor not in self.producer:
            yield None
            return
        operator = self.producer[tensor]
        kind = self._kind(operator)
        if kind == "DEQUANTIZE":
            return
        known = kind in (*_INT8_IN_TFLM, *_JOINS) and sum(tensor in each.inputs for each in self.graph.operators) == 1
        yield kind if known else None
        for source in operator.inputs if known else ():
            if kind in _JOINS:
                yield from self._kinds(int(source))
            elif int(source) not in self.producer or self._kind(self.producer[int(source)]) != "DEQUANTIZE":
                yield None

    def _to_int8(self, tensor, end, output):
        """Let what computes the float `tensor` compute `output`, on the grid of what `end` writes."""
        operator, tensors = self.producer[tensor], self.graph.tensors
        tensors[output].name = tensors[tensor].name
        operator.outputs = [output]
        sources = [self.producer[int(source)] for source in operator.inputs]
        if self._kind(operator) in _INT8_IN_TFLM:
            operator.inputs = [int(sources[0].inputs[0])]
        else:
            operator.inputs = [self._on_grid(source, operator, end) for source in sources]

    def _on_grid(self, source, reader, end):
        """The int8 tensor, on the grid of what `end` writes, in place of what `source` computes for `reader`."""
        is_edge = self._kind(source) == "DEQUANTIZE"
        if is_edge and fb.quantisation(self.model, source.inputs[0]) == fb.quantisation(self.model, end.outputs[0]):
            return int(source.inputs[0])
        whole = self.graph.tensors[int((source.inputs if is_edge else source.outputs)[0])]
        tensor = copy.copy(self.graph.tensors[int(end.outputs[0])])
        tensor.name, tensor.shape, tensor.shapeSignature = whole.name, whole.shape, None
        self.graph.tensors.append(tensor)
        number = len(self.graph.tensors) - 1
        if is_edge:
            quantize = copy.copy(end)
            quantize.inputs, quantize.outputs = [int(source.inputs[0])], [number]
            self.graph.operators.insert(next(i for i, each in enumerate(self.graph.operators) if each is reader), quantize)
        else:
            self._to_int8(int(source.outputs[0]), end, number)
        return number
