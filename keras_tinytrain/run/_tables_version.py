"""Which tables this release runs, and which release runs the others."""

import pathlib

from keras_tinytrain.export.bundle_folder import tables_version
from keras_tinytrain.tflm_runtime.headers import constant

_WRITTEN_BY = {5: "0.1"}  # kTablesVersion: the release of keras-tinytrain


def check_version(source: pathlib.Path) -> None:
    """Raise ValueError where a bundle's tables.cpp is for another version of the runtime: which release runs it, what to do."""
    exported, ours = tables_version(source), constant("tinytrain_tables.h", "kTablesVersion")
    if exported == ours:
        return
    version = "no version" if exported is None else f"version {exported}"
    raise ValueError(
        f"{source} was exported for {version} of the runtime, and this release has version {ours}: run it with "
        f"{_release(exported, ours)}, or export the bundle again with `keras-tinytrain export MODEL --plan {source.parent / 'plan.json'}`."
    )


def _release(exported: int | None, ours: int) -> str:
    if exported in _WRITTEN_BY:
        return f"keras-tinytrain {_WRITTEN_BY[exported]}"
    return f"{'a newer' if (exported or 0) > ours else 'an older'} keras-tinytrain"
