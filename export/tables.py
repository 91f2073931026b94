"""Write a trainable graph as C++: tables.h/.cpp for the runtime, models.h/.cpp with the .tflite files as arrays."""

import json
import re
import struct

import numpy as np

from keras_tinytrain.export.tflite.flatbuffer import constant_offset, quantisation, read_model

TABLES_VERSION = 5  # kTablesVersion in tinytrain_tables.h
_HEADS = {"prototypes": "kPrototypes", "softmax": "kSoftmax"}
_OPTIMIZERS = {"sgd": "kSgd", "momentum": "kMomentum", "adam": "kAdam", "adam_per_channel": "kAdamPerChannel"}
_WEIGHTS = {"float_masters": "kFloatMasters", "int8": "kInt8"}
_CRITERIA = {"P": "kPotential", "P/W": "kPerWeight", "P/M": "kPerMac", "P/(W*M)": "kPerWeightAndMac"}
_UPDATES = {"accumulated": "kAccumulated", "immediate": "kImmediate"}
# The structs of tinytrain_tables.h in the notation of Python's `struct`, native alignment; "0P" pads the end.
_TENSOR, _LAYER, _TRAINED, _VIEW = "@3ifiiii", "@BB??9i3P", "@P4i3P", "@2h?0h"
_TABLES = "@I32sB3ifi" + 3 * "iP" + "3iPN" + "0i3B?6f3iI" + "2iBI" + "0P"


def image_input(model_bytes: bytes) -> dict:
    """Height, width, channels, scale and zero point of a model's input."""
    model = read_model(model_bytes)
    (tensor,) = model.subgraphs[0].inputs
    (scale,), (zero_point,) = quantisation(model, tensor)
    height, width, channels = (1, 1, *(int(n) for n in model.subgraphs[0].tensors[tensor].shape[1:]))[-3:]
    return {"height": height, "width": width, "channels": channels, "scale": float(scale), "zero_point": int(zero_point)}


def render_sources(
    graph,
    *,
    name: str,
    frozen: bytes | None,
    trainable: bytes,
    base_hash: bytes,
    head: str,
    settings,
    views,
    arenas: dict,
    adaptive: dict | None = None,
) -> dict[str, str]:
    """The generated C++ of a bundle.

    Args:
        graph: the `TrainableGraph` of `trainable`.
        name: of the bundle; its identifier becomes the namespace.
        frozen, trainable: the two .tflite files.
        base_hash: SHA-256 of the int8 model before it was cut.
        head: "prototypes" or "softmax".
        settings: a `TrainingSettings` with num_classes set.
        views: ((shift_y, shift_x, mirrored), ...).
        arenas: bytes of "frozen_arena", "trainable_arena", "model_arena", "training_arena", "scratch" and "image_scratch"; of
            "page_bytes", "feature_flash" and "delta_flash".
        adaptive: "criterion" and "backward_macs" of a graph with candidates.

    Returns:
        {file name: text} of tables.h, tables.cpp, models.h, models.cpp.
    """
    values = {
        "name": name,
        "namespace": identifier(name),
        "guard": identifier(name).upper(),
        "version": TABLES_VERSION,
        "tensors": graph.tensors,
        "layers": graph.layers,
        "trained": graph.trained or graph.candidates,
        "candidates": graph.candidates,
        "criterion": _CRITERIA[adaptive["criterion"] if adaptive else "P"],
        "backward_macs": adaptive["backward_macs"] if adaptive else 0,
        "num_outputs": graph.num_outputs,
        "head_output": graph.head_output,
        "gradient_bytes": graph.gradient_bytes,
        "base_hash": list(base_hash),
        "head": _HEADS[head],
        "optimizer": _OPTIMIZERS[settings.optimizer],
        "weights": _WEIGHTS[settings.weights],
        "updates": _UPDATES[settings.updates],
        "training": settings,
        "views": views,
        "image": image_input(frozen or trainable),
        "frozen": frozen,
        "trainable": trainable,
        "offset": lambda tensor: constant_offset(trainable, tensor),
        **arenas,
    }
    return {file: render(f"{file}.j2", **values) for file in ("tables.h", "tables.cpp", "models.h", "models.cpp")}


def tables_bytes(graph, *, num_views: int) -> int:
    """Flash that the tables take with this host's pointers, kernels and biases not counted: they lie in the model.

    Computed from the structs' layout, so that kTablesBytes, which the C++ compiler computes, can be held against it.
    """
    listed = graph.trained or graph.candidates
    names = sum(len(trained.name.encode()) + 1 for trained in listed)
    scales = sum(4 * len(layer.kernel_scales) for layer in graph.layers if layer.kernel is not None)
    channels = sum(2 * len(trained.channels) for trained in graph.trained)
    structs = ((_TABLES, 1), (_TENSOR, len(graph.tensors)), (_LAYER, len(graph.layers)), (_TRAINED, len(listed)))
    return sum(struct.calcsize(s) * n for s, n in (*structs, (_VIEW, num_views))) + names + scales + channels


def render(template: str, **values) -> str:
    """A file of export/templates/, filled in. Raises ImportError where jinja2 is not installed."""
    try:
        import jinja2
    except ImportError as error:
        raise ImportError('Writing a bundle needs jinja2. Install it with: pip install "keras-tinytrain[host]"') from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {
        "float32": _float32,
        "quoted": lambda text: json.dumps(text, ensure_ascii=False),
        "byte_rows": _byte_rows,
        "resolver": _resolver_method,
    }
    return environment.get_template(template).render(**values)


def identifier(name: str) -> str:
    """The C++ namespace of a bundle: no keyword, and never beginning with a digit."""
    return "bundle_" + re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()


def _float32(value):
    """A float literal that reads back as the same float32: nine significant digits."""
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def _resolver_method(operator):
    """DEPTHWISE_CONV_2D -> AddDepthwiseConv2D, the method of MicroMutableOpResolver that registers it."""
    return "Add" + "".join(word if word[0].isdigit() else word.capitalize() for word in operator.split("_"))


def _byte_rows(data):
    return "\n".join(" ".join(f"{byte}," for byte in data[row : row + 24]) for row in range(0, len(data), 24))
