"""A firmware bundle on disk: a folder with a checksum of every file. It is read without TensorFlow."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import typing

from keras_tinytrain.export._workplace import MANIFEST, recover
from keras_tinytrain.plan import Plan

SCHEMA_VERSION = 2
_FIELDS: dict[str, type] = dict.fromkeys(("name", "namespace", "base_hash"), str)
_MEMORIES = ("sram", "scratch", "flash")
_FIELDS |= dict.fromkeys(("board", "input", "features", "files", *_MEMORIES), dict)
_ASSERTED_VERSION = re.compile(r"static_assert\(tinytrain::kTablesVersion == (\d+)")


class ModelInput(typing.TypedDict):
    """How a model takes its input: real value = scale * (q - zero_point)."""

    height: int
    width: int
    channels: int
    scale: float
    zero_point: int


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An exported bundle on disk. `Bundle.load` checks that every file is as it was exported.

    Args:
        path: the bundle's folder.
        manifest: the content of manifest.json; see the bundle's README.md.
        plan: layers and channels that are trained.
    """

    path: pathlib.Path
    manifest: dict
    plan: Plan

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Bundle":
        """Read a bundle: a folder with a checksum of every file.

        Raises:
            ValueError: it is no bundle, or a file is missing or altered. The file is named.
        """
        path = pathlib.Path(path)
        recover(path)
        manifest = _read_manifest(path)
        _check_files(path, manifest)
        return cls(path, manifest, Plan.load(path / "plan.json"))

    def check(self) -> None:
        """Raise ValueError naming the first file that is missing or was altered since the export."""
        _check_files(self.path, self.manifest)

    @property
    def frozen(self) -> bytes | None:
        """frozen.tflite; None where nothing is frozen."""
        file = self.path / "frozen.tflite"
        return file.read_bytes() if file.is_file() else None

    @property
    def trainable(self) -> bytes:
        """trainable.tflite."""
        return (self.path / "trainable.tflite").read_bytes()

    @property
    def promised_bytes(self) -> dict[str, dict[str, int]]:
        """{"sram": {part: bytes, ..., "total": bytes}, "scratch": {part: bytes, ...}, "flash": {...}}.

        The scratch lies in the models' arena, which is a part of the SRAM. Its own parts share the same bytes in turn.
        """
        return {memory: dict(self.manifest[memory]) for memory in _MEMORIES}

    @property
    def input(self) -> ModelInput:
        """The model's input: height, width, channels, scale, zero_point; real value = scale * (q - zero_point)."""
        return typing.cast(ModelInput, dict(self.manifest["input"]))

    @property
    def class_names(self) -> tuple[str, ...]:
        """One for each class; () where they have no names."""
        return tuple(self.manifest.get("class_names", ()))

    def class_name(self, label: int) -> str:
        """The name of a class, or its number where it has none."""
        return self.class_names[label] if label < len(self.class_names) else str(label)

    @property
    def sample_values(self) -> tuple[float, float]:
        """(scale, offset) by which stored values became the model's inputs at the export, see `data.load_samples`."""
        values = self.manifest.get("sample_values", {"scale": 1.0, "offset": 0.0})
        return values["scale"], values["offset"]

    @property
    def tables_version(self) -> int | None:
        """kTablesVersion of the runtime that tables.cpp was written for; None where the file does not say it."""
        return tables_version(self.path / "tables.cpp")


def tables_version(source: pathlib.Path) -> int | None:
    """kTablesVersion that a tables.cpp asserts; None where it asserts none."""
    found = _ASSERTED_VERSION.search(source.read_text(encoding="utf-8"))
    return int(found[1]) if found else None


def _read_manifest(path: pathlib.Path) -> dict:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version = manifest["keras_tinytrain_bundle"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a bundle written by export_tflm: {error}") from error
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"{path} is a bundle of version {version}, and this release reads version {SCHEMA_VERSION}: export it again."
        )
    _check_fields(path / MANIFEST, manifest)
    return manifest


def _check_fields(file: pathlib.Path, manifest: dict) -> None:
    """Raise ValueError where the manifest lacks a field that all else relies on."""
    for name, kind in _FIELDS.items():
        if not isinstance(manifest.get(name), kind):
            raise ValueError(f"{file} was altered after the export: {name!r} is missing or no {kind.__name__}.")
    if not _names_and_values_are_valid(manifest):
        raise ValueError(f"{file} was altered after the export: class_names or sample_values are none.")
    missing = {"trainable.tflite", "plan.json", "tables.cpp"}.difference(manifest["files"])
    if missing:
        raise ValueError(f"{file} was altered after the export: it does not list {', '.join(sorted(missing))}.")


def _names_and_values_are_valid(manifest: dict) -> bool:
    """Fields that version 0.1 did not write: absent, or texts and two numbers."""
    names, values = manifest.get("class_names", []), manifest.get("sample_values", {"scale": 1.0, "offset": 0.0})
    return (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and isinstance(values, dict)
        and all(type(values.get(name)) in (int, float) for name in ("scale", "offset"))
    )


def _check_files(path: pathlib.Path, manifest: dict) -> None:
    for name, digest in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise ValueError(f"{file} is missing from the bundle: export it again.")
        if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise ValueError(f"{file} was altered after the export, so the bundle cannot be trusted: export it again.")
    if not _names_base(path / "tables.cpp", manifest["base_hash"]):
        raise ValueError(f"{path / MANIFEST} was altered after the export: base_hash is not that of the tables.")


def _names_base(tables: pathlib.Path, base_hash: str) -> bool:
    """Whether tables.cpp holds the 32 bytes of `base_hash`, written in hexadecimal."""
    digest, text = bytes.fromhex(base_hash), tables.read_text(encoding="utf-8")
    return len(digest) == 32 and all(", ".join(map(str, half)) in text for half in (digest[:16], digest[16:]))
