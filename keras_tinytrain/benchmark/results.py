"""Results of long benchmarks: a CSV to which finished rows are appended; a row in it is not run again."""

import csv
import errno
import fcntl
import io
import os
import pathlib

FIELDS = (
    "backbone", "pretrained", "domain", "task", "seed", "episode", "iterations", "budget", "method", "learning_rate",
    "accuracy", "trained_weights", "memory_bytes", "device_bytes", "backward_macs", "seconds",
)  # fmt: skip
KEY = FIELDS[:10]  # identify a row; the other fields are results


def read_results(
    path: str | os.PathLike, fields: tuple[str, ...] = FIELDS, *, num_keys: int = len(KEY)
) -> list[dict[str, str]]:
    """Rows of the file, [] where there is none. A last line that was cut off in writing is left out; the file is not changed.

    Args:
        path: a file that `append_results` wrote.
        fields: its columns; those of `benchmark accuracy` have one row per backbone, task and method.
        num_keys: so many of them identify a row; the others hold numbers, several with blanks between them, or nothing.

    Raises:
        ValueError: the file has other columns, or a line is damaged.
        FileNotFoundError: the file's folder does not exist.
    """
    path = pathlib.Path(path)
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "There is no such folder for the results", os.fspath(path.parent))
    return _rows(path.read_bytes(), path, fields, num_keys) if path.exists() else []


def given_results(path: str | os.PathLike, option: str) -> list[dict[str, str]]:
    """Rows of `benchmark accuracy` in a file that was named as `option`.

    Raises:
        ValueError: the file is not one of them, or a line is damaged.
        FileNotFoundError: there is none.
    """
    expected = f"{option} expects a CSV file that `benchmark accuracy --out` wrote"
    if not os.path.exists(path):
        raise FileNotFoundError(f"{expected}. There is no {path}.")
    header = ",".join(FIELDS).encode()
    with open(path, "rb") as file:
        if file.read(len(header)) != header:
            raise ValueError(f"{expected}. {path} is none.")
    return read_results(path)


def append_results(
    path: str | os.PathLike, rows: list[dict], fields: tuple[str, ...] = FIELDS, *, num_keys: int = len(KEY)
) -> None:
    """Add rows to the file, with a header where it is new; rows that it holds already are left out.

    The file is locked meanwhile, so that several benchmarks may share it. A last line that was cut off is removed.

    Raises:
        ValueError: as `read_results`; nothing is written.
        OSError: the disk is full, for instance; the file holds what it held.
    """
    with open(path, "a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        data = file.readall()
        known = {_key(row, fields, num_keys) for row in _rows(data, path, fields, num_keys)}
        whole = data.rfind(b"\n") + 1
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fields, lineterminator="\n")
        if not whole:
            writer.writeheader()
        writer.writerows(row for row in rows if _key(row, fields, num_keys) not in known)
        try:
            file.truncate(whole)
            _write(file, text.getvalue().encode())
        except OSError as error:
            file.truncate(whole)
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _rows(data, path, fields, num_keys):
    header = ",".join(fields).encode() + b"\n"
    if header.startswith(data):  # nothing, or a header that was cut off
        return []
    text = data[: data.rfind(b"\n") + 1].decode(errors="replace") or data.decode(errors="replace")
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        if "\0" in text.splitlines()[0]:  # which the reader takes, but not that of Python 3.10
            raise ValueError(f"{path} is not a file of results: it is not a text. Name another --out.")
        if tuple(columns := next(reader)) != fields:
            raise ValueError(f"{path} is not a file of results: its columns are {columns[:20]}. Name another --out.")
        return [_row(values, fields, num_keys, f"{path}, line {reader.line_num}") for values in reader if values]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}. Remove that line.") from error


def _row(values, fields, num_keys, where):
    if len(values) != len(fields):
        raise ValueError(f"{where}: expected {len(fields)} columns, received {len(values)}. Remove that line.")
    try:
        for value in values[num_keys:]:
            [float(number) for number in value.split()]
    except ValueError as error:
        raise ValueError(f"{where}: {error}. Remove that line.") from error
    return dict(zip(fields, values, strict=True))


def _write(file, data):
    while data:
        data = data[file.write(data) :]
    os.fsync(file.fileno())


def _key(row, fields, num_keys):
    return tuple(str(row[field]) for field in fields[:num_keys])


def key(row: dict) -> tuple[str, ...]:
    """The fields that identify a row, as text."""
    return _key(row, KEY, len(KEY))
