"""What manifest.json of a bundle may say: its JSON schema (draft 4, in which 8.0 is no integer)."""

import typing

VERSION, FIRST_WITH_DIGEST = 3, 3
DIGEST = "sha256"  # of the manifest without this field
MEMORIES = ("sram", "scratch", "flash")
_GENERATED = ("models.cpp", "models.h", "tables.cpp", "tables.h")
_OPTIONAL = ("frozen.tflite", "sketch/partitions.csv", "teach.html")
_LATER = ("class_names", "sample_values", "project")  # release 0.1 did not write them
FILES = frozenset(
    {
        "README.md",
        "TinyTrain.zip",
        "plan.json",
        "trainable.tflite",
        "sketch/sketch.ino",
        "sketch/learner.h",
        *_OPTIONAL,
        *_GENERATED,
    }
    | {f"sketch/{name}" for name in _GENERATED}
)

_Schema = dict[str, typing.Any]
_SIZE: _Schema = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
_COUNT = {**_SIZE, "minimum": 1}
_INT8: _Schema = {"type": "integer", "minimum": -128, "maximum": 127}
_NUMBER, _TEXT, _FLAG = {"type": "number"}, {"type": "string", "maxLength": 1000}, {"type": "boolean"}
_SHA256: _Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$", "maxLength": 64}
_NAME: _Schema = {"type": "string", "pattern": r"^bundle_[A-Za-z0-9_]*$", "maxLength": 1000, "not": {"pattern": "\n"}}


def _object(fields: _Schema, *optional: str) -> _Schema:
    """An object of these fields and no others."""
    required = [name for name in fields if name not in optional]
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def _array(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


def _sizes(*required: str) -> _Schema:
    return {"type": "object", "required": list(required), "additionalProperties": _SIZE}


def _or_null(schema: _Schema) -> _Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_QUANTISED: _Schema = {"scale": {"type": "number", "minimum": 0}, "zero_point": _INT8}
_BOARD = {"name": _TEXT, "cpu": _TEXT, "clock_hz": _SIZE, "sram_bytes": _COUNT, "flash_bytes": _COUNT}
_LATER_BOARD: _Schema = {"reserved_flash_bytes": _SIZE, "kernels": _TEXT}  # releases before 0.2 did not write them
_TRAINING: _Schema = {
    **dict.fromkeys(("optimizer", "weights", "updates"), _TEXT),
    "leave_one_out": _FLAG,
    **dict.fromkeys(("learning_rate", "momentum", "beta_2", "epsilon", "logit_scale", "average"), _NUMBER),
    "iterations": _SIZE,
    "num_classes": {**_COUNT, "maximum": 255},
    "max_samples": {**_COUNT, "maximum": 65535},
    "seed": _SIZE,
}
_LATER_TRAINING: _Schema = {  # releases before 0.2 did not write them
    **dict.fromkeys(("stop_loss", "skip_loss"), _NUMBER),
    **dict.fromkeys(("late_prototypes", "only_if_needed"), _FLAG),
}
_CHOICE = {
    "name": _TEXT,
    "split": _FLAG,
    "whole_bytes": _SIZE,
    "selected_bytes": _SIZE,
    "arena_growth": {"type": ["integer", "null"]},
}
_ADAPTIVE = {
    "criterion": _TEXT,
    **dict.fromkeys(("backward_macs", "full_backward_macs", "arena_bytes", "scratch_bytes"), _SIZE),
}
_TIME: _Schema = {
    **dict.fromkeys(("samples", "iteration", "trained", "prototypes", "solve", "answer"), _NUMBER),
    **dict.fromkeys(("num_samples", "iterations"), _SIZE),
    "choice": _NUMBER,
}


def _time(by_prototypes: _Schema) -> _Schema:
    """Of one head, and of the prototypes that a device may choose in its place."""
    return _object({**_TIME, "by_prototypes": by_prototypes}, "choice", "by_prototypes")


_CLOSED_FORM: _Schema = {
    "maps": _array(_TEXT),
    "stored_maps": _array(_TEXT),
    "parts": _array(_COUNT),
    "scratch_bytes": _SIZE,
    "reject_unknown": _NUMBER,
    "choice": _TEXT,
}
_VIEW: _Schema = {"type": "array", "items": {"type": ["integer", "boolean"]}, "minItems": 3, "maxItems": 3}

_FIELDS: _Schema = {
    "keras_tinytrain_bundle": {"type": "integer"},
    "name": _TEXT,
    "namespace": _NAME,
    "board": _object({**_BOARD, **_LATER_BOARD, "reserved_sram_bytes": _SIZE, "flash_page_bytes": _SIZE}, *_LATER_BOARD),
    "base_hash": _SHA256,
    "head": {"enum": ["prototypes", "softmax"]},
    "class_names": {**_array(_TEXT), "maxItems": 255},
    "sample_values": _object({"scale": _NUMBER, "offset": _NUMBER}),
    "input": _object({"height": _COUNT, "width": _COUNT, "channels": _COUNT, **_QUANTISED}),
    "output": _object({"size": _COUNT, **_QUANTISED}),
    "features": _object({"size": _COUNT, "memory": {"enum": ["ram", "flash"]}}),
    "trained": {"type": "object", "minProperties": 1, "additionalProperties": _COUNT},
    "adaptive": _or_null(_object(_ADAPTIVE)),
    "weights_in_ram": _array(_object(_CHOICE)),
    "operators": _array({"type": "string", "pattern": "^[A-Z0-9_]+$", "maxLength": 100}),
    "layers": _array(_TEXT),
    "training": _object({**_TRAINING, **_LATER_TRAINING}, *_LATER_TRAINING),
    "views": _array(_VIEW),
    "sketch": {"enum": ["serial", "imu", "camera"]},
    "project": {"enum": ["arduino", "platformio", "esp-idf", "zephyr", "cmake"]},
    "sram": _sizes("model_arena", "total"),
    "arenas": _object({"frozen_arena": _SIZE, "trainable_arena": _SIZE}),
    "scratch": _sizes(),
    "flash": _sizes("frozen_model", "trainable_model", "features", "deltas", "total"),
    "time": _or_null(_time(_or_null(_time({"type": "null"})))),
    "activation_gradients_bound": _SIZE,
    "activation_gradients_whole": _SIZE,
    "closed_form": _object(_CLOSED_FORM, "reject_unknown", "choice", "stored_maps"),
    "files": _object(dict.fromkeys(sorted(FILES), _SHA256), *_OPTIONAL),
    DIGEST: _SHA256,
}


def schema(version: int) -> _Schema:
    """Of the manifests of a version. Those before `FIRST_WITH_DIGEST` have no digest, and may list fewer files, as they always could."""
    if version >= FIRST_WITH_DIGEST:
        return _object(_FIELDS, "closed_form", "time")
    files = _object(dict.fromkeys(sorted(FILES), _SHA256), *(FILES - {"plan.json", "tables.cpp", "trainable.tflite"}))
    return _object(
        {**{name: field for name, field in _FIELDS.items() if name != DIGEST}, "files": files}, "closed_form", "time", *_LATER
    )
