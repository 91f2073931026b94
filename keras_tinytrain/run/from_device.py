"""Back to Keras: what a device learned, as a classifier on the model that was exported."""

import dataclasses
import os
import typing

import keras
import numpy as np

from keras_tinytrain.delta import ChannelValues, Delta, model_hash
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.head import CLOSED_FORM
from keras_tinytrain.export.read_tables import ReadTables
from keras_tinytrain.fewshot.adaptation import classifier_from_delta
from keras_tinytrain.fewshot.classifier import FewShotClassifier
from keras_tinytrain.fewshot.unknown import KNOWN
from keras_tinytrain.model.channels import find_weights
from keras_tinytrain.model.ending import without_normalisation
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.model.maps import pooled_size
from keras_tinytrain.run._checked_tables import checked_tables

_SCALE_UNIT = 2.0**-30  # of the int32 of a closed-form head's channel
_ORIGINAL = "original_"
_OF_DEVICES = "threshold", "samples"  # further records of a closed-form head


def classifier_from_device(model: keras.Model, bundle: Bundle | str | os.PathLike, delta: Delta) -> FewShotClassifier:
    """The classifier that a device learned, on a copy of `model` with BatchNorm folded.

    It answers as the device does, except that it does not round activations to int8, nor weights that were not trained.

    Args:
        model: images -> embeddings, the one that was exported.
        bundle: the export, with a head of prototypes or a closed-form head.
        delta: of a device, of `HostRuntime` or of `EdgeRuntime`, such as `Delta.load("task.ttd")`.

    Raises:
        ValueError: the delta was learned on another bundle, or `model` is not the one that was exported.

    Example:
        >>> learned = classifier_from_device(model, "build/faces", Delta.load("task.ttd"))  # doctest: +SKIP
        >>> learned.predict(x_query)  # doctest: +SKIP
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    if delta.base_hash.hex() != bundle.manifest["base_hash"]:
        raise ValueError(
            f"This delta was learned on base model {delta.base_hash.hex()[:12]}, and bundle {bundle.path} has base model "
            f"{bundle.manifest['base_hash'][:12]}: give the bundle that the board runs."
        )
    if bundle.manifest["head"] != "prototypes":
        raise ValueError(f"Bundle {bundle.path} has head 'softmax': only a head of prototypes or a closed-form one comes back.")
    canonical, tables = without_normalisation(fold_batch_norm(model)), checked_tables(bundle)
    heads = _heads(delta)
    records = [_trained(record, canonical, tables) for record in delta.records if record.name not in _head_names(delta)]
    records += [_ridge(record, tables) if record.name.endswith(CLOSED_FORM) else record for record in heads]
    records += _known(delta)
    closed_form = bundle.manifest.get("closed_form", {})
    return classifier_from_delta(
        canonical,
        Delta(model_hash(canonical), tuple(records), sequence=delta.sequence),
        average=bundle.manifest["training"]["average"],
        maps=closed_form.get("maps"),
    )


def _head_names(delta: Delta) -> set[str]:
    names = {prefix + name for prefix in ("", _ORIGINAL) for name in ("prototypes", CLOSED_FORM)} | {KNOWN, *_OF_DEVICES}
    return names.intersection(record.name for record in delta.records)


def _heads(delta: Delta) -> list[ChannelValues]:
    """The records of the head that answers: the closed-form one where there is one."""
    answering = CLOSED_FORM if CLOSED_FORM in _head_names(delta) else "prototypes"
    return [record for record in delta.records if record.name in (answering, _ORIGINAL + answering)]


def _trained(record: ChannelValues, model: keras.Model, tables: ReadTables) -> ChannelValues:
    """kernel = scale * int8 and bias = scale * int32, in the shape of the Keras layer's kernel."""
    layer = _layer(record.name, tables)
    tensors = tables.array(tables.tables.tensors, "Tensor", tables.tables.num_tensors)
    scales = np.array(tables.array(layer.kernel_scales, "float", tensors[layer.output].channels))[list(record.channels)]
    weights = find_weights(model, record.name)
    shape = np.moveaxis(np.empty(weights.kernel.shape, np.int8), weights.axis, 0).shape[1:]
    values = (
        record.values.reshape(len(record.channels), layer.kernel_height, layer.kernel_width, -1) * scales[:, None, None, None]
    )
    cropped = values[:, : shape[0], : shape[1]] if len(shape) > 2 else values  # without zeros that took over a padding
    if cropped[0].size != np.prod(shape):
        raise ValueError(
            f"Layer '{record.name}' has kernels of shape {shape}, the bundle's have {values.shape[1:]}: give the model that was exported."
        )
    biases = None
    if record.biases is not None:
        biases = record.biases * scales * tensors[layer.input].scale
    elif weights.has_bias:  # a folded norm's, which stays
        biases = weights.bias.numpy()[list(record.channels)]
    return dataclasses.replace(
        record,
        values=cropped.reshape(len(values), -1).astype(np.float32),
        biases=biases.astype(np.float32) if biases is not None and weights.has_bias else None,
    )


def _layer(name: str, tables: ReadTables) -> typing.Any:
    for trained in tables.array(tables.tables.trained, "TrainedLayer", tables.tables.num_trained):
        if tables.text(trained.name) == name:
            return tables.array(tables.tables.layers, "Layer", tables.tables.num_layers)[trained.layer]
    raise ValueError(f"The delta holds layer '{name}', which the bundle does not train: give the bundle that the board runs.")


def _ridge(record: ChannelValues, tables: ReadTables) -> ChannelValues:
    """W = scale * int8 for each class; means = scale * (int8 - zero point) of each part's tensor."""
    scales, zero_points = _grid_of_a_row(tables)
    biases = typing.cast(np.ndarray, record.biases)
    kernel = record.values[:-1] * (biases[:-1, None] * _SCALE_UNIT)
    means = scales * (record.values[-1] - zero_points)
    return dataclasses.replace(record, values=np.concatenate([kernel, means[None]]).astype(np.float32), biases=None)


def _known(delta: Delta) -> list[ChannelValues]:
    """What tells samples of no class: directions of the classes and W of those samples, with the threshold for each."""
    records = {record.name: record for record in delta.records}
    if KNOWN not in records:
        return []
    record, threshold = records[KNOWN], records["threshold"].values
    values = record.values * (typing.cast(np.ndarray, record.biases)[:, None] * _SCALE_UNIT)
    biases = np.full(len(values), threshold.item(), np.float32)
    return [dataclasses.replace(record, values=values.astype(np.float32), biases=biases)]


def _grid_of_a_row(tables: ReadTables) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point of each element."""
    tensors = tables.array(tables.tables.tensors, "Tensor", tables.tables.num_tensors)
    maps, embedding = [tensors[index] for index in tables.map_tensors()], tensors[len(tensors) - 1]
    sizes = [pooled_size((each.height, each.width, each.channels)) for each in maps]
    sizes.append(embedding.height * embedding.width * embedding.channels)
    scales, zero_points = ([getattr(part, name) for part in (*maps, embedding)] for name in ("scale", "zero_point"))
    return np.repeat(scales, sizes), np.repeat(zero_points, sizes)
