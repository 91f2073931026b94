"""The C++ of a bundle, rendered anew from what was read of it: the emulated board compiles none of the bundle's own text."""

import os
import pathlib

from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.templates import render
from keras_tinytrain.run._checked_tables import checked_tables
from keras_tinytrain.run.bundle_runtime import runtime_module


def render_bundle(bundle: Bundle, folder: str | os.PathLike) -> list[pathlib.Path]:
    """Write tables.h, tables.cpp, models.h and models.cpp of a bundle into `folder`.

    Returns:
        The paths of the two that are compiled.

    Raises:
        ValueError: the tables cannot be read, or contradict themselves or the models.
        ImportError: jinja2 is not installed.
    """
    tables = checked_tables(bundle)
    values = _values(bundle, tables.address)
    names = {"name": tables.namespace, "namespace": tables.namespace, "guard": tables.namespace.upper()}
    texts = {file: render(f"{file}.j2", **names, **values) for file in ("tables.h", "models.h", "models.cpp")}
    for file, text in {**texts, "tables.cpp": tables.written()}.items():
        pathlib.Path(folder, file).write_text(text, encoding="utf-8")
    return [pathlib.Path(folder, file) for file in ("tables.cpp", "models.cpp")]


def _values(bundle: Bundle, tables: int) -> dict[str, object]:
    """Sizes of memory, as the exporter gave them; see `export.tables.render_sources`."""
    manifest, in_flash = bundle.manifest, bundle.manifest["features"]["memory"] == "flash"
    parts = runtime_module().required_bytes(tables, samples_in_flash=in_flash)
    sram, flash, room = manifest["sram"], manifest["flash"], manifest["adaptive"] or manifest.get("closed_form") or {}
    closed_form = sram.get("closed_form", 0)
    return {
        "frozen": bundle.frozen,
        "trainable": bundle.trainable,
        "trained": list(manifest["trained"]),
        **manifest["arenas"],
        "model_arena": sram["model_arena"],
        "training_arena": sram["total"] - sram["model_arena"] - closed_form - sram.get("variables", 0),
        "closed_form": closed_form,
        "scratch": room.get("scratch_bytes", parts["scratch"]),
        "image_scratch": parts["image"],
        "page_bytes": manifest["board"]["flash_page_bytes"],
        "feature_flash": flash["features"],
        "delta_flash": flash["deltas"],
    }
