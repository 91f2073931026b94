"""What a bundle's tables, models and plan say, in the manifest's words: a manifest must say the same."""

import ctypes
import math
import typing

from keras_tinytrain.export.manifest_schema import MEMORIES
from keras_tinytrain.export.read_tables import HEADER, ReadTables
from keras_tinytrain.plan import Plan
from keras_tinytrain.tflm_runtime.headers import constant, enum, names

STORED_SAMPLE = constant(HEADER, "kStoredSample")
_CHOICES = {"optimizer": "Optimizer", "weights": "WeightStorage", "updates": "Updates"}
_Facts = dict[str, typing.Any]


def contradiction(manifest: _Facts, tables: ReadTables, frozen: bytes | None, trainable: bytes, plan: Plan) -> str | None:
    """The first field of a valid manifest that says something else than the bundle's files; None where all agree."""
    said = {**manifest, "trained by plan.json": manifest["trained"]}
    for name, found in _facts(manifest, tables, frozen, trainable, plan).items():
        if not _same(said[name], found):
            return f"{name} is {said[name]!r}, and its files say {found!r}"
    return None


def _facts(manifest: _Facts, tables: ReadTables, frozen: bytes | None, trainable: bytes, plan: Plan) -> _Facts:
    values = tables.tables
    tensors = tables.array(values.tensors, "Tensor", values.num_tensors)
    trained = tables.array(values.trained, "TrainedLayer", values.num_trained)
    views = tables.array(values.views, "View", values.num_views)
    image = {name: getattr(values, f"image_{name}") for name in manifest["input"]}
    models = {"frozen_model": len(frozen or b""), "trainable_model": len(trainable)}
    return {
        "namespace": tables.namespace,
        "base_hash": bytes(values.base_hash).hex(),
        "head": _named("Head", values.head),
        "input": image,
        "output": {"size": _size(tensors[-1]), "scale": tensors[-1].scale, "zero_point": tensors[-1].zero_point},
        "features": {**manifest["features"], "size": _num_stored(tensors)},
        "trained": {tables.text(each.name): each.num_channels for each in trained},
        "trained by plan.json": {layer.name: len(layer.channels) for layer in plan.layers},
        "training": {name: _setting(name, getattr(values.training, name)) for name in manifest["training"]},
        "views": [[view.shift_y, view.shift_x, view.mirrored] for view in views],
        **{memory: _with_total(manifest[memory]) for memory in MEMORIES},
        "flash": _with_total(manifest["flash"] | models),
    }


def _size(tensor: typing.Any) -> int:
    return math.prod((tensor.height, tensor.width, tensor.channels))


def _num_stored(tensors: typing.Sequence[typing.Any]) -> int:
    """int8 values of a stored sample: `NumStored` in tinytrain/memory/memory.h."""
    return _size(tensors[0]) + sum(_size(each) for each in tensors[1:] if each.kept == STORED_SAMPLE)


def _setting(name: str, value: typing.Any) -> typing.Any:
    return _named(_CHOICES[name], value) if name in _CHOICES else value


def _named(kind: str, number: int) -> str | None:
    """The name in Python of an enumerator; None: there is none of this number."""
    numbers = enum(HEADER, kind)
    return next((name for name, enumerator in names(HEADER, kind).items() if numbers[enumerator] == number), None)


def _with_total(parts: dict[str, int]) -> dict[str, int]:
    if "total" not in parts:
        return parts
    return {**parts, "total": sum(num_bytes for name, num_bytes in parts.items() if name != "total")}


def _same(said: typing.Any, found: typing.Any) -> bool:
    """Equal, where numbers with a fraction are compared as the float32 that the tables hold."""
    if isinstance(found, dict):
        return isinstance(said, dict) and said.keys() == found.keys() and all(_same(said[name], found[name]) for name in found)
    if isinstance(found, float):
        return isinstance(said, (int, float)) and ctypes.c_float(said).value == found
    return bool(said == found)
