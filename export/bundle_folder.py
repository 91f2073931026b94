"""A firmware bundle on disk: one folder that vouches for itself. Read without TensorFlow."""

import dataclasses
import hashlib
import json
import os
import pathlib

from keras_tinytrain.plan import Plan

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
_FIELDS = dict.fromkeys(("name", "namespace", "base_hash"), str)
_MEMORIES = ("sram", "scratch", "flash")
_FIELDS |= dict.fromkeys(("board", "input", "features", "files", *_MEMORIES), dict)


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An exported bundle on disk. `Bundle.load` checks that every file is as it was exported.

    Args:
        path: the bundle's folder.
        manifest: what manifest.json says; see the bundle's README.md.
        plan: layers and channels that are trained.
    """

    path: pathlib.Path
    manifest: dict
    plan: Plan

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Bundle":
        """Read a bundle. Raises ValueError naming the file that is missing or altered."""
        path = pathlib.Path(path)
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            version = manifest["keras_tinytrain_bundle"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is not a bundle written by export_tflm: {error}") from error
        if version != SCHEMA_VERSION:
            raise ValueError(f"{path} is a bundle of version {version}, this release reads version {SCHEMA_VERSION}.")
        _check_fields(path / MANIFEST, manifest)
        bundle = cls(path=path, manifest=manifest, plan=None)
        bundle.check()
        return dataclasses.replace(bundle, plan=Plan.load(path / "plan.json"))

    def check(self) -> None:
        """Raise ValueError naming the first file that is missing or altered since the export."""
        for name, digest in self.manifest["files"].items():
            file = self.path / name
            if not file.is_file():
                raise ValueError(f"{file} is missing from the bundle: export it again.")
            if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
                raise ValueError(f"{file} was altered after the export, so the bundle cannot be trusted: export it again.")
        if not _names_base(self.path / "tables.cpp", self.manifest["base_hash"]):
            raise ValueError(f"{self.path / MANIFEST} was altered after the export: base_hash is not that of the tables.")

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

        The scratch lies in the model's arena, which is a part of the SRAM, and its own parts over one another.
        """
        return {memory: dict(self.manifest[memory]) for memory in _MEMORIES}

    @property
    def input(self) -> dict:
        """The model's input: height, width, channels, scale, zero_point; real value = scale * (q - zero_point)."""
        return dict(self.manifest["input"])


def _names_base(tables, base_hash):
    """Whether tables.cpp holds the 32 bytes of `base_hash`, written in hexadecimal."""
    digest, text = bytes.fromhex(base_hash), tables.read_text(encoding="utf-8")
    return len(digest) == 32 and all(", ".join(map(str, half)) in text for half in (digest[:16], digest[16:]))


def _check_fields(file, manifest):
    """Raise ValueError where what the rest relies on is not in the manifest."""
    for name, kind in _FIELDS.items():
        if not isinstance(manifest.get(name), kind):
            raise ValueError(f"{file} was altered after the export: {name!r} is missing or no {kind.__name__}.")
    missing = {"trainable.tflite", "plan.json", "tables.cpp"}.difference(manifest["files"])
    if missing:
        raise ValueError(f"{file} was altered after the export: it does not list {', '.join(sorted(missing))}.")
