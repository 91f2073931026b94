"""Which operator TensorFlow Lite Micro cannot run, of a model that it cannot."""

from collections.abc import Callable

from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.layer_names import layer_name


def culprit(model_bytes: bytes, runs: Callable[[bytes], bool]) -> str | None:
    """A sentence that names the first operator that does not run by itself, and its layer; None where each of them runs.

    Args:
        model_bytes: a .tflite file that TensorFlow Lite Micro cannot run.
        runs: whether TensorFlow Lite Micro runs a .tflite file.
    """
    for index, operator in enumerate(fb.read_model(model_bytes).subgraphs[0].operators):
        model = fb.read_model(model_bytes)
        inputs = [int(tensor) for tensor in operator.inputs if tensor >= 0 and fb.constant(model, int(tensor)) is None]
        kind, name = fb.operator_name(model, operator), layer_name(model, int(operator.outputs[0]))
        if not runs(fb.part_of(model, [index], list(dict.fromkeys(inputs)), [int(tensor) for tensor in operator.outputs])):
            return f"Layer '{name}' needs {kind}, which TensorFlow Lite Micro cannot run: replace the layer."
    return None
