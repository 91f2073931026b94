"""Read a pickle, or a file of torch.save, that holds tensors and plain containers; refuse anything else it asks for.

A pickle is a program: it may name any function and call it. Here every name but the few below is refused before it is looked
up, and those few are stand-ins of our own: neither torch's nor numpy's reconstruction is called with a stranger's arguments.
"""

import collections
import io
import math
import os
import pickle
import zipfile
from typing import Any

import numpy as np

# What Unpickler and ZipFile raise on bytes that are not what they should be.
_DAMAGE = (
    AttributeError,
    EOFError,
    LookupError,
    StopIteration,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
_DTYPES = {"f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1"}


def load_pickle(path: str | os.PathLike) -> Any:
    """The content of `path`: dicts, lists, tuples, strings, numbers; tensors and arrays as objects that `numpy.asarray` takes.

    Args:
        path: written by pickle, or by torch.save in its zip or its older format.

    Raises:
        ValueError: the file asks for anything but tensors and plain containers, or is damaged.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            return _load_zip(data)
        return _load_stream(data)
    except _DAMAGE as error:
        raise ValueError(f"{os.fspath(path)} cannot be read safely: {error}") from error


def _load_zip(data):
    """torch.save since 1.6: <folder>/data.pkl, and the storage with key K in <folder>/data/K."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        root = next(name for name in archive.namelist() if name.endswith("data.pkl"))[: -len("data.pkl")]

        def storage(dtype, key, count):
            return np.frombuffer(archive.read(f"{root}data/{key}"), dtype, count)

        return _Unpickler(io.BytesIO(archive.read(f"{root}data.pkl")), storage).load()


def _load_stream(data):
    """One pickle; or torch.save before 1.6: magic, version, system, object, storage keys, then length and elements of each."""
    file = io.BytesIO(data)
    storages: dict[str, np.ndarray] = {}

    def storage(dtype, key, count):
        if count * dtype.itemsize > len(data):
            raise pickle.UnpicklingError(f"a storage of {count} elements in a file of {len(data)} bytes.")
        return storages.setdefault(key, np.zeros(count, dtype))  # its elements follow after the object

    content = _Unpickler(file, storage).load()
    if content != _LEGACY_MAGIC:
        return content
    _, _, content, keys = (_Unpickler(file, storage).load() for _ in range(4))
    for key in keys:
        file.seek(8, os.SEEK_CUR)  # the number of elements, which the object has told already
        elements = file.read(storages[key].nbytes)
        if len(elements) != storages[key].nbytes:
            raise EOFError("its tensors are cut short.")
        storages[key][:] = np.frombuffer(elements, storages[key].dtype)
    return content


class _Unpickler(pickle.Unpickler):
    """Admits the names in `find_class`; `storage(dtype, key, count)` answers torch's references to its storages."""

    def __init__(self, file, storage):
        super().__init__(file)
        self._storage = storage

    def find_class(self, module, name):
        known = {
            "collections.OrderedDict": collections.OrderedDict,
            "torch._utils._rebuild_tensor_v2": _TENSOR,
            "numpy.ndarray": _Array,
            "numpy.dtype": _Dtype,
            "_codecs.encode": _LATIN1,
            **{f"numpy.{core}.multiarray._reconstruct": _ARRAY for core in ("core", "_core")},
            **{f"numpy.{core}.multiarray.scalar": _SCALAR for core in ("core", "_core")},
            **{f"numpy.{core}.numeric._frombuffer": _FROM_BUFFER for core in ("core", "_core")},
            **{f"torch.{storage}": np.dtype(code) for storage, code in _STORAGES.items()},
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}; only tensors and plain containers are admitted.")
        return known[f"{module}.{name}"]

    def persistent_load(self, reference):
        kind, dtype, key, _, count, *_ = reference
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"it refers to a {kind!r}, which is no storage.")
        return self._storage(dtype, str(key), int(count))


class _Callable:
    """A function without attributes that a pickle could set."""

    __slots__ = ()


class _Tensor(_Callable):
    def __call__(self, storage, offset, shape, strides, *_):
        """A view of `storage`; every element lies inside it."""
        last = offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
        if min((offset, *shape, *strides)) < 0 or (math.prod(shape) and last >= storage.size):
            raise pickle.UnpicklingError(f"a tensor of shape {tuple(shape)} beyond the end of its storage.")
        strides = [stride * storage.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides)


class _Dtype:
    __slots__ = ("dtype",)

    def __init__(self, code, *_):
        if code not in _DTYPES:
            raise pickle.UnpicklingError(f"an array of type {code!r}; only numbers are admitted.")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        if state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


class _Array:
    """Stands for a numpy array until `numpy.asarray` is called on it."""

    __slots__ = ("value",)

    def __setstate__(self, state):
        _, shape, kind, fortran, elements = state
        self.value = np.frombuffer(elements, kind.dtype).reshape(shape, order="F" if fortran else "C")

    def __array__(self, dtype=None, copy=None):
        return self.value if dtype is None else self.value.astype(dtype)


class _NewArray(_Callable):
    def __call__(self, *_):
        return _Array()


class _Scalar(_Callable):
    def __call__(self, kind, element):
        return np.frombuffer(element, kind.dtype)[0]


class _FromBuffer(_Callable):
    def __call__(self, elements, kind, shape, order):
        return np.frombuffer(elements, kind.dtype).reshape(shape, order=order)


class _Latin1(_Callable):
    def __call__(self, text, encoding):
        return text.encode("latin1")


_TENSOR, _ARRAY, _SCALAR, _FROM_BUFFER, _LATIN1 = _Tensor(), _NewArray(), _Scalar(), _FromBuffer(), _Latin1()
