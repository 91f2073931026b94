"""Operators that TensorFlow's converter leaves in float32, and that TensorFlow Lite Micro computes in int8, become int8."""

from keras_tinytrain.export.tflite import flatbuffer as fb

_INT8_IN_TFLM = ("ELU",)  # by a table of all 256 answers, as the converter would have asked for


def without_islands(model_bytes: bytes) -> bytes:
    """The same model with DEQUANTIZE, operator, QUANTIZE as the operator alone, where it is one of `_INT8_IN_TFLM`."""
    model = fb.read_model(model_bytes)
    graph, gone = model.subgraphs[0], set[int]()
    producer = {int(tensor): index for index, operator in enumerate(graph.operators) for tensor in operator.outputs}
    for operator in graph.operators:
        if fb.operator_name(model, operator) not in _INT8_IN_TFLM:
            continue
        before = producer[int(operator.inputs[0])]
        after = _readers(graph, int(operator.outputs[0]))
        if [fb.operator_name(model, graph.operators[index]) for index in (before, *after)] != ["DEQUANTIZE", "QUANTIZE"]:
            continue
        output = int(graph.operators[after[0]].outputs[0])
        graph.tensors[output].name = graph.tensors[int(operator.outputs[0])].name
        gone |= {*after, *([before] if len(_readers(graph, int(operator.inputs[0]))) == 1 else [])}
        operator.inputs, operator.outputs = [int(graph.operators[before].inputs[0])], [output]
    if not gone:
        return model_bytes
    kept = [index for index in range(len(graph.operators)) if index not in gone]
    return fb.part_of(model, kept, [int(tensor) for tensor in graph.inputs], [int(tensor) for tensor in graph.outputs])


def _readers(graph: fb.schema.SubGraphT, tensor: int) -> list[int]:
    return [index for index, operator in enumerate(graph.operators) if tensor in operator.inputs]
