"""Which tables this release runs, and which release runs the others."""

import pathlib
import re

from keras_tinytrain.tflm_runtime.headers import constant

# {kTablesVersion of an earlier release: {struct: the fields that it lacks}}: `ReadTables` reads them as 0.
LACKING: dict[int, dict[str, tuple[str, ...]]] = {
    5: {
        "Layer": ("slope",),
        "TrainingSettings": ("stop_loss", "skip_loss", "late_prototypes", "only_if_needed"),
    }
}
_WRITTEN_BY = {5: "0.1"}  # kTablesVersion: the release of keras-tinytrain
_ASSERTED_VERSION = re.compile(r"static_assert\(tinytrain::kTablesVersion == (\d{1,9}),")


def tables_version(source: pathlib.Path) -> int | None:
    """kTablesVersion that a tables.cpp asserts; None where it asserts none."""
    found = _ASSERTED_VERSION.search(source.read_text(encoding="utf-8"))
    return int(found[1]) if found else None


def is_readable(source: pathlib.Path) -> bool:
    """Whether this release can read a bundle's tables.cpp."""
    return is_current(source) or tables_version(source) in LACKING


def is_current(source: pathlib.Path) -> bool:
    """Whether a bundle's tables.cpp is for this version of the runtime."""
    return tables_version(source) == constant("tinytrain_tables.h", "kTablesVersion")


def check_current(source: pathlib.Path) -> None:
    """Raise ValueError where a bundle's tables.cpp is for another version of the runtime, so that no board runs it."""
    if not is_current(source):
        raise _other_version(source)


def fields_lacking(source: pathlib.Path) -> dict[str, tuple[str, ...]]:
    """{struct: the fields that it lacks} of a bundle's tables.cpp. Raises ValueError where this release cannot read it."""
    if not is_readable(source):
        raise _other_version(source)
    return {} if is_current(source) else LACKING[tables_version(source) or 0]


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
