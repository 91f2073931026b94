"""Which tables this release runs, and which release runs the others."""

import pathlib

from keras_tinytrain.export.bundle_folder import tables_version
from keras_tinytrain.tflm_runtime.headers import constant

# {kTablesVersion of an earlier release: {struct: the fields that it lacks}}: `ReadTables` reads them as 0.
LACKING: dict[int, dict[str, tuple[str, ...]]] = {5: {"Layer": ("slope",)}}
_WRITTEN_BY = {5: "0.1"}  # kTablesVersion: the release of keras-tinytrain


def is_current(source: pathlib.Path) -> bool:
    """Whether a bundle's tables.cpp is for this version of the runtime, so that it compiles."""
    return tables_version(source) == constant("tinytrain_tables.h", "kTablesVersion")


def check_current(source: pathlib.Path) -> None:
    """Raise ValueError where a bundle's tables.cpp does not compile with this version of the runtime."""
    if not is_current(source):
        raise _other_version(source)


def fields_lacking(source: pathlib.Path) -> dict[str, tuple[str, ...]]:
    """{struct: the fields that it lacks} of a bundle's tables.cpp. Raises ValueError where this release cannot read it."""
    if is_current(source):
        return {}
    exported = tables_version(source)
    if exported not in LACKING:
        raise _other_version(source)
    return LACKING[exported]


def _other_version(source: pathlib.Path) -> ValueError:
    """The error that says which release runs these tables, and how to export them again."""
    exported, ours = tables_version(source), constant("tinytrain_tables.h", "kTablesVersion")
    version = "no version" if exported is None else f"version {exported}"
    return ValueError(
        f"{source} was exported for {version} of the runtime, and this release has version {ours}: run it with "
        f"{_release(exported, ours)}, or export the bundle again with `keras-tinytrain export MODEL --plan "
        f"{source.parent / 'plan.json'}`."
    )


def _release(exported: int | None, ours: int) -> str:
    if exported in _WRITTEN_BY:
        return f"keras-tinytrain {_WRITTEN_BY[exported]}"
    return f"{'a newer' if (exported or 0) > ours else 'an older'} keras-tinytrain"
