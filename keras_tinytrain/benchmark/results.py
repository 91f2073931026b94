"""Results of long benchmarks: a CSV to which finished rows are appended; a row in it is not run again."""

import csv
import os
import pathlib

FIELDS = (
    "backbone", "pretrained", "domain", "task", "seed", "episode", "iterations", "budget", "method", "learning_rate",
    "accuracy", "trained_weights", "memory_bytes", "device_bytes", "backward_macs", "seconds",
)  # fmt: skip
KEY = FIELDS[:10]  # identify a row; the other fields are results


def read_results(path: str | os.PathLike, fields: tuple[str, ...] = FIELDS) -> list[dict[str, str]]:
    """Rows of the file, [] where there is none. A last line that was cut off in writing is dropped, from the file too.

    Args:
        path: a file that `append_results` wrote.
        fields: its columns; those of `benchmark accuracy` have one row per backbone, task and method.

    Raises:
        ValueError: the file has other columns.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text, encoding="utf-8")
    if not text:
        return []
    reader = csv.DictReader(text.splitlines())
    if tuple(reader.fieldnames or ()) != fields:
        raise ValueError(f"{path} is not a file of results: its columns are {reader.fieldnames}. Name another --out.")
    return list(reader)


def append_results(path: str | os.PathLike, rows: list[dict], fields: tuple[str, ...] = FIELDS) -> None:
    """Add rows to the file, with a header where it is new."""
    path = pathlib.Path(path)
    new = not path.exists() or path.stat().st_size == 0
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def key(row: dict) -> tuple[str, ...]:
    """The fields that identify a row, as text."""
    return tuple(str(row[field]) for field in KEY)
