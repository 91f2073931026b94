"""A firmware bundle on disk: a folder with a checksum of every file. It is read without TensorFlow."""

import dataclasses
import hashlib
import json
import os
import pathlib
import typing

from keras_tinytrain.export._workplace import MANIFEST, recover
from keras_tinytrain.export.bundle_facts import contradiction
from keras_tinytrain.export.manifest_schema import DIGEST, FIRST_WITH_DIGEST, MEMORIES, schema
from keras_tinytrain.export.manifest_schema import VERSION as SCHEMA_VERSION
from keras_tinytrain.export.read_tables import ReadTables
from keras_tinytrain.export.tables_version import is_readable, tables_version
from keras_tinytrain.plan import Plan

_READABLE = (2, SCHEMA_VERSION)  # version 2 was written by release 0.1


class ModelInput(typing.TypedDict):
    """How a model takes its input: real value = scale * (q - zero_point)."""

    height: int
    width: int
    channels: int
    scale: float
    zero_point: int


def manifest_digest(manifest: dict) -> str:
    """SHA-256 of what a manifest says, its own digest left out."""
    content = {name: value for name, value in manifest.items() if name != DIGEST}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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
        """Read a bundle: a folder with a checksum of every file. Nothing of it is run, and nothing outside it is read.

        Raises:
            ValueError: it is no bundle; a file is missing, altered or a link; or its files contradict each other. The file is
                named.
        """
        path = pathlib.Path(path)
        recover(path)
        manifest = _read_manifest(path)
        _check_files(path, manifest)
        bundle = cls(path, manifest, Plan.load(path / "plan.json"))
        bundle._check_agreement()
        return bundle

    def __repr__(self) -> str:
        sram, flash = (self.manifest[memory]["total"] for memory in ("sram", "flash"))
        return (
            f"<Bundle {self.manifest['name']!r} for board {self.manifest['board']['name']}, head {self.head}, {sram:,} B of SRAM, "
            f"{flash:,} B of flash, in {self.path}>"
        )

    @property
    def head(self) -> str:
        """What answers: "prototypes", "softmax", "ridge", or "auto", where the device chooses between "prototypes" and "ridge"."""
        if "closed_form" not in self.manifest:
            return self.manifest["head"]
        return "ridge" if self.manifest["closed_form"].get("choice", "closed_form") == "closed_form" else "auto"

    def check(self) -> None:
        """Raise ValueError naming the first file that is missing or was altered since the export."""
        _check_files(self.path, self.manifest)

    def _check_agreement(self) -> None:
        """Raise ValueError where the manifest and the files contradict each other, as far as this release reads the tables."""
        source = self.path / "tables.cpp"
        if not is_readable(source):
            return
        tables = ReadTables(source, self.trainable)
        wrong = contradiction(self.manifest, tables, self.frozen, self.trainable, self.plan)
        if wrong:
            raise ValueError(f"{self.path / MANIFEST} was altered after the export: {wrong}. Export the bundle again.")

    @property
    def frozen(self) -> bytes | None:
        """frozen.tflite; None where nothing is frozen."""
        return _read(self.path, "frozen.tflite") if "frozen.tflite" in self.manifest["files"] else None

    @property
    def trainable(self) -> bytes:
        """trainable.tflite."""
        return _read(self.path, "trainable.tflite")

    @property
    def promised_bytes(self) -> dict[str, dict[str, int]]:
        """{"sram": {part: bytes, ..., "total": bytes}, "scratch": {part: bytes, ...}, "flash": {...}}.

        The scratch lies in the models' arena, which is a part of the SRAM. Its own parts share the same bytes in turn.
        """
        return {memory: dict(self.manifest[memory]) for memory in MEMORIES}

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


def _read_manifest(path: pathlib.Path) -> dict:
    file = path / MANIFEST
    if not os.path.lexists(file):
        found = "it is a file" if path.is_file() else "there is no such folder"
        found = f"that folder holds no {MANIFEST}" if path.is_dir() else found
        raise ValueError(f"{path} is not a bundle: {found}. Name the folder that an export wrote.")
    try:
        manifest = json.loads(_read(path, MANIFEST), parse_constant=_no_number)
        version = manifest["keras_tinytrain_bundle"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} is not a bundle as an export wrote it: {error}. Export it again.") from error
    if version not in _READABLE:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        raise ValueError(
            f"{path} is a bundle of version {str(version)[:20]}, and this release reads versions {_READABLE[0]} to "
            f"{SCHEMA_VERSION}: {'install a newer keras-tinytrain, or export' if newer else 'export'} it again."
        )
    _check_schema(file, manifest, version)
    if version >= FIRST_WITH_DIGEST and manifest[DIGEST] != manifest_digest(manifest):
        raise ValueError(f"{file} was altered after the export: its digest is another. Export the bundle again.")
    return manifest


def _no_number(text: str) -> typing.NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _check_schema(file: pathlib.Path, manifest: dict, version: int) -> None:
    import jsonschema

    error = jsonschema.exceptions.best_match(jsonschema.Draft4Validator(schema(version)).iter_errors(manifest))
    if error is not None:
        where = "/".join(map(str, error.absolute_path)) or "the manifest"
        raise ValueError(f"{file} was altered after the export: {where}: {error.message[:200]}. Export the bundle again.")


def _check_files(path: pathlib.Path, manifest: dict) -> None:
    for name, digest in manifest["files"].items():
        if hashlib.sha256(_read(path, name)).hexdigest() != digest:
            raise ValueError(f"{path / name} was altered after the export, so the bundle cannot be trusted: export it again.")


def _read(path: pathlib.Path, name: str) -> bytes:
    """A file of the bundle: a plain file inside its folder, and no link to another place."""
    file = path / name
    if not file.is_file():
        raise ValueError(f"{file} is missing from the bundle: export it again.")
    if file.resolve() != path.resolve() / name:
        raise ValueError(f"{file} is a link, and a bundle has none: copy the bundle with its files.")
    return file.read_bytes()
