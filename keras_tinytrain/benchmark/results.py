"""Results of long benchmarks: a CSV to which each finished row is appended, so that a run that was cut off goes on."""

import csv
import math
import os
import pathlib

import numpy as np


def read_rows(path: str | os.PathLike, fields: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a file of results; none where there is no file yet. Raises ValueError where its columns are not `fields`."""
    if not pathlib.Path(path).exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != fields:
            raise ValueError(f"{path} is not a file of results: its columns are {reader.fieldnames}. Name another --out.")
        return list(reader)


def append_row(path: str | os.PathLike, fields: tuple[str, ...], row: dict) -> None:
    """Write one row behind the others, the names of the columns first in a new file."""
    new = not pathlib.Path(path).exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        if new:
            writer.writeheader()
        writer.writerow(row)


def mean_and_interval(values) -> str:
    """mean +- half the 95 % confidence interval."""
    half = 1.96 * np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.2f} +- {half:.2f}"
