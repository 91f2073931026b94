"""How many bytes training and what it keeps take, exactly: of an exported graph, so that the runtime's report can be held against it."""

import typing

from keras_tinytrain.choose.training_memory import ClosedForm, DevicePlan, LayerInRam, Training, TrainingMemory
from keras_tinytrain.choose.training_memory import training_memory as memory_of
from keras_tinytrain.export.settings import TrainingSettings
from keras_tinytrain.model.maps import pooled_size
from keras_tinytrain.tflm_runtime import delta_format
from keras_tinytrain.tflm_runtime.rounding import whole_blocks

if typing.TYPE_CHECKING:  # it imports TensorFlow
    from keras_tinytrain.export.backward.graph import TrainableGraph, TrainedLayer


def training_memory(
    graph: "TrainableGraph",
    settings: TrainingSettings,
    *,
    head: str,
    image_bytes: int,
    num_views: int,
    features: str = "ram",
    closed_form: ClosedForm | None = None,
) -> TrainingMemory:
    """What `Trainer::RequiredBytes` reports, computed without it; every part is a multiple of 16 B.

    Args:
        graph: the trainable part.
        settings: with `num_classes` set.
        head: "prototypes" or "softmax".
        image_bytes: int8 values of one input of the whole model.
        num_views: augmented copies that are kept of each sample.
        features: "ram" or "flash": where the frozen part's outputs are kept.
        closed_form: the head that answers in place of the prototypes; None where they answer.
    """
    assert settings.num_classes is not None
    return memory_of(
        Training(
            layers=tuple(layer_in_ram(graph, trained) for trained in graph.trained),
            gradient_bytes=graph.gradient_bytes,
            num_features=graph.num_stored,
            num_pixels=image_bytes,
            dimension=graph.tensors[-1].size,
            num_samples=settings.max_samples,
            num_views=num_views,
            num_classes=settings.num_classes,
            optimizer=settings.optimizer,
            weights=settings.weights,
            features_in_flash=features == "flash",
            has_prototypes=head == "prototypes",
            leave_one_out=settings.leave_one_out,
            late_prototypes=bool(settings.late_prototypes),
            immediate=settings.updates == "immediate",
            averages=settings.average > 0,
            plan=_device_plan(graph),
            closed_form=closed_form,
        )
    )


def closed_form_of(graph: "TrainableGraph", *, in_flash: bool = False, rejects: bool = False) -> ClosedForm:
    """The closed-form head over a graph's maps and its embedding, with its rows in the scratch."""
    maps = [graph.tensors[index] for index in graph.maps]
    sizes = (pooled_size((each.height, each.width, each.channels)) for each in maps)
    return ClosedForm((*sizes, graph.tensors[-1].size), in_flash, rejects=rejects)


def layer_in_ram(graph: "TrainableGraph", trained: "TrainedLayer") -> LayerInRam:
    """What RAM holds of a trained layer: all of its channels or, where it is split, the trained ones."""
    layer, num_trained = graph.layers[trained.layer], len(trained.channels)
    num_held = num_trained if trained.is_split else graph.tensors[layer.output].channels
    return LayerInRam(num_trained, num_held, layer.weights_per_channel, layer.bias is not None)


def _device_plan(graph: "TrainableGraph") -> DevicePlan | None:
    """Sizes of the plan that the device chooses; None where there are no candidates."""
    if not graph.candidates:
        return None
    listed, chosen = (sum(len(layer.channels) for layer in layers) for layers in (graph.candidates, graph.trained))
    return DevicePlan(len(graph.candidates), listed, chosen)


def feature_flash_bytes(graph: "TrainableGraph", settings: TrainingSettings, *, num_views: int) -> int:
    """Bytes of flash of all samples' features, without the rest of the last page: the C++ function `FlashSamplesBytes`."""
    return settings.max_samples * (1 + num_views) * whole_blocks(graph.num_stored)


def delta_bytes(
    graph: "TrainableGraph", settings: TrainingSettings, *, head: str, closed_form: ClosedForm | None = None
) -> int:
    """Bytes of a delta, the largest: `Trainer::DeltaBytes`. The format stands in tinytrain_delta.h.

    With candidates, it is the size of a delta that holds them all without their channels' weights; those take no more bytes
    than they do in RAM.
    """
    assert settings.num_classes is not None
    layers = [graph.layers[trained.layer] for trained in graph.trained]
    records = [
        delta_format.record_bytes(trained.name, len(trained.channels), layer.weights_per_channel + 4 * (layer.bias is not None))
        for trained, layer in zip(graph.trained, layers)
    ]
    records += [delta_format.record_bytes(candidate.name, 0, 0) for candidate in graph.candidates]
    heads: list[list[int]] = [[]]  # of each that may answer
    if head == "prototypes":
        names = ["prototypes"] + ["original_prototypes"] * bool(settings.average)
        heads = [[delta_format.record_bytes(name, settings.num_classes, 4 * graph.tensors[-1].size) for name in names]]
    if closed_form is not None:
        heads.append(_closed_form_records(settings, settings.num_classes, closed_form))
    return max(delta_format.delta_bytes(records + each) for each in heads)


def _closed_form_records(settings: TrainingSettings, num_classes: int, head: ClosedForm) -> list[int]:
    names = ["ridge"] + ["original_ridge"] * bool(settings.average) + ["known"] * head.rejects
    records = [delta_format.record_bytes(name, num_classes + 1, head.num_elements + 4) for name in names]
    records += [delta_format.record_bytes("threshold", 1, 4)] * head.rejects
    return records + [delta_format.record_bytes("samples", settings.max_samples, 2 + 4)] * head.in_flash
