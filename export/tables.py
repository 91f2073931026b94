"""Write a trainable graph as C++: tables.h/.cpp for the runtime, models.h/.cpp with the .tflite files as arrays."""

import ctypes

from keras_tinytrain._prediction_bound import prediction_bounds
from keras_tinytrain.export.backward.graph import TrainableGraph
from keras_tinytrain.export.bundle_folder import ModelInput
from keras_tinytrain.export.request import ExportRequest
from keras_tinytrain.export.settings import TrainingSettings
from keras_tinytrain.export.templates import identifier, render
from keras_tinytrain.export.tflite.flatbuffer import constant_offset, quantisation, read_model, shape_of
from keras_tinytrain.model.maps import in_time
from keras_tinytrain.tflm_runtime.headers import constant, names, struct

HEADER = "tinytrain_tables.h"
CRITERIA = {"P": "kPotential", "P/W": "kPerWeight", "P/M": "kPerMac", "P/(W*M)": "kPerWeightAndMac"}


def image_input(model_bytes: bytes) -> ModelInput:
    """Height, width, channels, scale and zero point of a model's input."""
    model = read_model(model_bytes)
    (tensor,) = model.subgraphs[0].inputs
    (scale,), (zero_point,) = quantisation(model, tensor)
    height, width, channels = (1, 1, *shape_of(model, tensor)[1:])[-3:]
    return {"height": height, "width": width, "channels": channels, "scale": float(scale), "zero_point": int(zero_point)}


def render_sources(
    graph: TrainableGraph,
    *,
    name: str,
    frozen: bytes | None,
    trainable: bytes,
    base_hash: bytes,
    head: str,
    settings: TrainingSettings,
    views: tuple[tuple[int, int, bool], ...],
    arenas: dict[str, int],
    adaptive: dict | None = None,
    closed_form: int = 0,
    bounds: tuple[float, ...] = (),
    choice: str = "closed_form",
    prototype_training: TrainingSettings | None = None,
) -> dict[str, str]:
    """The generated C++ of a bundle.

    Args:
        graph: of `trainable`.
        name: of the bundle. Its identifier becomes the namespace.
        frozen, trainable: the two .tflite files.
        base_hash: SHA-256 of the int8 model before it was cut.
        head: "prototypes" or "softmax".
        settings: with num_classes set.
        views: ((shift_y, shift_x, mirrored), ...).
        arenas: bytes of "frozen_arena", "trainable_arena", "model_arena", "training_arena", "scratch", "image_scratch",
            "page_bytes", "feature_flash" and "delta_flash".
        adaptive: "criterion" and "backward_macs" of a graph with candidates.
        closed_form: bytes of SRAM of a closed-form head that reads the graph's maps; 0: there is none.
        bounds: of that head, see `bounds_of`.
        choice: of that head, see `choice_of`.
        prototype_training: iterations and late prototypes where the prototypes answer; None: as `settings`.

    Returns:
        {file name: text} of tables.h, tables.cpp, models.h, models.cpp.
    """
    values = {
        "name": name,
        "namespace": identifier(name),
        "guard": identifier(name).upper(),
        "version": constant(HEADER, "kTablesVersion"),
        "tensors": graph.tensors,
        "layers": graph.layers,
        "trained": graph.trained or graph.candidates,
        "candidates": graph.candidates,
        "criterion": CRITERIA[adaptive["criterion"] if adaptive else "P"],
        "backward_macs": adaptive["backward_macs"] if adaptive else 0,
        "num_outputs": graph.num_outputs,
        "head_output": graph.head_output,
        "gradient_bytes": graph.gradient_bytes,
        "maps": graph.maps,
        "closed_form": closed_form,
        "bounds": bounds,
        "choice": names(HEADER, "HeadChoice")[choice],
        "prototype_training": prototype_training or settings,
        "base_hash": list(base_hash),
        "head": names(HEADER, "Head")[head],
        "optimizer": names(HEADER, "Optimizer")[settings.optimizer],
        "weights": names(HEADER, "WeightStorage")[settings.weights],
        "updates": names(HEADER, "Updates")[settings.updates],
        "training": settings,
        "views": views,
        "image": image_input(frozen or trainable),
        "frozen": frozen,
        "trainable": trainable,
        "offset": lambda tensor: constant_offset(trainable, tensor),
        **arenas,
    }
    return {file: render(f"{file}.j2", **values) for file in ("tables.h", "tables.cpp", "models.h", "models.cpp")}


def bounds_of(request: ExportRequest) -> tuple[float, ...]:
    """Prediction bounds by which a closed-form head tells samples of no class (`Maps`); none where it does not."""
    if not request.rejects:
        return ()
    most = max(request.training.max_samples, request.training.num_classes or 0)
    return prediction_bounds(request.device.reject_unknown, most)


def choice_of(request: ExportRequest) -> str:
    """What answers beside a closed-form head, as `HeadChoice` names it; by the rule of `adapt(head="auto")`."""
    if not request.chooses:
        return "closed_form"
    return "if_better" if in_time(request.model.input_shape[1:-1]) else "unless_worse"


def tables_bytes(graph: TrainableGraph, *, num_views: int, closed_form: bool = False, num_bounds: int = 0) -> int:
    """Flash that the tables take with this host's pointers. Kernels and biases are not counted: they lie in the model.

    It is computed from the structs' layout, so that a test can compare it with kTablesBytes, which the C++ compiler computes.
    """
    listed = graph.trained or graph.candidates
    names = sum(len(trained.name.encode()) + 1 for trained in listed)
    scales = sum(4 * len(layer.kernel_scales) for layer in graph.layers if layer.kernel_scales is not None)
    channels = sum(2 * len(trained.channels) for trained in graph.trained)
    counts = {
        "Tables": 1,
        "Tensor": len(graph.tensors),
        "Layer": len(graph.layers),
        "TrainedLayer": len(listed),
        "View": num_views,
        "Maps": int(closed_form),
    }
    maps = 4 * (len(graph.maps) + num_bounds)
    return sum(ctypes.sizeof(struct(HEADER, name)) * count for name, count in counts.items()) + names + scales + channels + maps
