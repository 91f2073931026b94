"""Which operators TensorFlow Lite Micro cannot run, of a model that it cannot."""

from collections.abc import Callable

from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.layer_names import Needs, layer_name

Runs = Callable[[bytes], bool]  # whether TensorFlow Lite Micro runs a .tflite file
CONVERSIONS = ("DEQUANTIZE", "QUANTIZE")


def unknown_operators(model_bytes: bytes, runs: Runs) -> Needs:
    """(layer, operator) of all operators whose kind TensorFlow Lite Micro does not know: the first of the kind does not run."""
    model = fb.read_model(model_bytes)
    needs = [(layer_name(model, int(each.outputs[0])), fb.operator_name(model, each)) for each in model.subgraphs[0].operators]
    kinds = [kind for _, kind in needs]
    known = {kind for kind in set(kinds) if kind in CONVERSIONS or runs(_alone(model_bytes, kinds.index(kind)))}
    return [(layer, kind) for layer, kind in needs if kind not in known]


def culprits(model_bytes: bytes, runs: Runs) -> Needs:
    """`unknown_operators`; where there is none, the first operator that does not run by itself. Empty where each of them runs.

    Args:
        model_bytes: a .tflite file that TensorFlow Lite Micro cannot run.
        runs: whether TensorFlow Lite Micro runs a .tflite file.
    """
    unknown = unknown_operators(model_bytes, runs)
    if unknown:
        return unknown
    model = fb.read_model(model_bytes)
    for index, operator in enumerate(model.subgraphs[0].operators):
        if not runs(_alone(model_bytes, index)):
            return [(layer_name(model, int(operator.outputs[0])), fb.operator_name(model, operator))]
    return []


def _alone(model_bytes, index):
    model = fb.read_model(model_bytes)
    operator = model.subgraphs[0].operators[index]
    inputs = [int(tensor) for tensor in operator.inputs if tensor >= 0 and fb.constant(model, int(tensor)) is None]
    return fb.part_of(model, [index], list(dict.fromkeys(inputs)), [int(tensor) for tensor in operator.outputs])
