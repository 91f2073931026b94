"""Arrays in an .npz: written whole, and read so that a damaged file is one error that names it."""

import contextlib
import io
import math
import os
import pathlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from keras_tinytrain._files import write_file

_LARGE_BYTES, _MOST_TIMES = 2**28, 100  # an archive that unpacks to more than both limits was made to fill the memory


def write_npz(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> None:
    """Write arrays by name; ".npz" is added to a name without it. Raises OSError, and then the old file is as it was."""
    content = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(content, **arrays)
    name = os.fspath(path)
    write_file(name if name.endswith(".npz") else f"{name}.npz", content.getvalue())


@contextlib.contextmanager
def opened_npz(path: str | os.PathLike, expected: str = "an .npz file") -> Iterator["Arrays"]:
    """The arrays of an .npz by name, each read when it is asked for. Pickled ones are refused.

    Args:
        path: of the file.
        expected: what the file is to be, for the error.

    Raises:
        ValueError: it is no .npz, or damaged, here or where an array is read; the file is named.
        FileNotFoundError: there is no such file.
    """
    path = pathlib.Path(path)
    if not path.is_file() and path.exists():
        raise ValueError(f"{path} is not {expected}: it is no ordinary file.")
    with path.open("rb") as file:
        with _saying(f"{path} is not {expected}"):
            if not zipfile.is_zipfile(file):
                raise ValueError("it is none, or it was cut short.")
            file.seek(0)
            arrays = np.load(file, allow_pickle=False)
            _check_unpacked_size(arrays.zip, os.fstat(file.fileno()).st_size)
        with arrays:
            yield Arrays(path, arrays)


def _check_unpacked_size(archive: zipfile.ZipFile, num_bytes: int) -> None:
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(_LARGE_BYTES, _MOST_TIMES * num_bytes):
        raise ValueError(
            f"its {num_bytes:,} B unpack to {unpacked:,} B, more than {_MOST_TIMES} times as many. If that is right, write it "
            "with np.savez, which does not compress."
        )


def _check_declared_size(archive: zipfile.ZipFile, name: str) -> None:
    """Before NumPy takes the memory that an array's header asks for."""
    member = archive.getinfo(name if name in archive.namelist() else f"{name}.npy")
    with archive.open(member) as file:
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        read = headers.get(np.lib.format.read_magic(file))
        if read is None:
            raise ValueError(f"array {name} is of a format that numbers do not need.")
        shape, _, dtype = read(file)
    declared = math.prod(shape) * dtype.itemsize
    if declared > member.file_size and not dtype.hasobject:
        raise ValueError(f"array {name} of shape {shape} takes {declared:,} B, and {member.file_size:,} B are there.")


class Arrays(Mapping):
    """An open .npz whose errors name the file."""

    def __init__(self, path, arrays):
        self._path, self._arrays = path, arrays

    def __getitem__(self, name):
        if name not in self._arrays.files:
            raise KeyError(name)
        with _saying(f"{self._path} is damaged"):
            _check_declared_size(self._arrays.zip, name)
            try:
                return np.asarray(self._arrays[name])
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
        raise ValueError(
            f"{self._path}: array {name} holds Python objects. Save numbers: images of one size, integer labels, which "
            "np.unique(names, return_inverse=True)[1] makes of names."
        )

    def __iter__(self):
        return iter(self._arrays.files)

    def __len__(self):
        return len(self._arrays.files)

    def numbers(self, name: str, shape: Sequence[int]) -> np.ndarray:
        """The array `name`. Raises ValueError where there is none, where it has another shape, or holds no numbers."""
        if name not in self:
            raise ValueError(f"{self._path} has no array '{name}', which the model needs.")
        array = self[name]
        if array.shape != tuple(shape):
            raise ValueError(f"'{name}' in {self._path} has shape {array.shape}, the model needs {tuple(shape)}.")
        if array.dtype.kind not in "biuf":
            raise ValueError(f"'{name}' in {self._path} holds {array.dtype}, numbers are needed.")
        return array


@contextlib.contextmanager
def _saying(what):
    """zipfile, zlib, struct, tokenize and NumPy each report damage by exceptions of their own."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what}: {error or type(error).__name__}") from error


def remark_on_cut(path: pathlib.Path) -> str:
    """A sentence for a file that is no zip archive, as .npz and .keras files are, and begins as one; else an empty text."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return " It begins like one and is cut off." if file.read(2) == b"PK" else ""
