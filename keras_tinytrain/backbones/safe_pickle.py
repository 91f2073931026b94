"""Read a pickle, or a file of torch.save, that holds tensors and plain containers; refuse anything else it asks for.

A pickle is a program: it may name any function and call it. Here its instructions are counted before one of them runs, every name
but the few below is refused before it is looked up, and those few are stand-ins of our own: neither torch's nor numpy's
reconstruction is called with a stranger's arguments. Memory is bounded by the size of the file.

This reader can go when the three published networks are .npz files with a pinned digest: `save_pretrained` writes one from each.
They need a public address that stays.
"""

import collections
import io
import math
import operator
import os
import pickle
import pickletools
import zipfile
import zlib
from typing import Any

import numpy as np

# What Unpickler and ZipFile raise on bytes that are not what they should be.
_DAMAGE = (
    AttributeError,
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)
_MOST_INSTRUCTIONS, _DEEPEST = 1_000_000, 50
_REFUSED = {"NEXT_BUFFER", "READONLY_BUFFER"}  # they refer to bytes outside the file
_MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}
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
    """The content of `path`: dicts, lists, tuples, strings, numbers, and arrays.

    Args:
        path: written by pickle, or by torch.save in its zip or its older format.

    Raises:
        ValueError: the file asks for anything but tensors and plain containers, or is damaged.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        content = _load_zip(data) if zipfile.is_zipfile(io.BytesIO(data)) else _load_stream(data)
        return _plain(content, {}, 0)
    except _DAMAGE as error:
        reason = str(error)[:200] or type(error).__name__
        raise ValueError(f"{os.fspath(path)} cannot be read safely: {reason}") from error


def _load_zip(data):
    """torch.save since 1.6: <folder>/data.pkl, and the storage with key K in <folder>/data/K."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        root = next(name for name in archive.namelist() if name.endswith("data.pkl"))[: -len("data.pkl")]
        room, storages = _Room(2 * len(data)), {}

        def read(name):
            room.take(archive.getinfo(name).file_size)
            return archive.read(name)

        def storage(dtype, key, count):
            if key not in storages:
                storages[key] = read(f"{root}data/{key}")
            return np.frombuffer(storages[key], dtype, count)

        return _load(io.BytesIO(read(f"{root}data.pkl")), storage, room)


def _load_stream(data):
    """One pickle; or torch.save before 1.6: magic, version, system, object, storage keys, then length and elements of each."""
    file, room = io.BytesIO(data), _Room(2 * len(data))
    storages: dict[str, np.ndarray] = {}

    def storage(dtype, key, count):
        if key not in storages:
            room.take(count * dtype.itemsize)
            storages[key] = np.zeros(count, dtype)  # its elements follow after the object
        return storages[key]

    content = _load(file, storage, room)
    if type(content) is not int or content != _LEGACY_MAGIC:
        return content
    _, _, content, keys = (_load(file, storage, room) for _ in range(4))
    for key in keys:
        file.seek(8, os.SEEK_CUR)  # the number of elements, which the object has told already
        elements = file.read(storages[key].nbytes)
        if len(elements) != storages[key].nbytes:
            raise EOFError("its tensors are cut short.")
        storages[key][:] = np.frombuffer(elements, storages[key].dtype)
    return content


def _load(file, storage, room):
    """The next pickle of a file, whose instructions are looked through first."""
    begin = file.tell()
    for count, (code, argument, _) in enumerate(pickletools.genops(file), start=1):
        if (
            code.name in _REFUSED
            or count > _MOST_INSTRUCTIONS
            or (code.name in _MEMO and int(argument or 0) > _MOST_INSTRUCTIONS)
        ):
            raise pickle.UnpicklingError(f"its instruction {count}, {code.name}, is admitted in no file of tensors.")
    file.seek(begin)
    return _Unpickler(file, storage, room).load()


class _Room:
    """Bytes that may still be made."""

    def __init__(self, num_bytes):
        self._num_bytes = num_bytes

    def take(self, num_bytes):
        self._num_bytes -= num_bytes
        if num_bytes < 0 or self._num_bytes < 0:
            raise pickle.UnpicklingError("it asks for more memory than a file of its size can fill.")


def _plain(content, known, depth):
    """Containers of our own making, with arrays in place of their stand-ins: nothing that a pickle has given attributes."""
    if isinstance(content, _Array):
        return content.value
    if content is None or isinstance(content, (bool, int, float, str, bytes, np.ndarray, np.generic)):
        return content
    if not isinstance(content, (dict, list, tuple)) or depth > _DEEPEST:
        raise pickle.UnpicklingError(f"a {type(content).__name__} within {depth} others is no tensor and no plain container.")
    if id(content) not in known:
        known[id(content)] = None
        known[id(content)] = _contents(content, known, depth + 1)
    elif known[id(content)] is None:
        raise pickle.UnpicklingError("a container lies within itself.")
    return known[id(content)]


def _contents(content, known, depth):
    if isinstance(content, dict):
        return {_key(key): _plain(value, known, depth) for key, value in dict.items(content)}
    return type(content)(_plain(value, known, depth) for value in content)


def _key(key):
    if not isinstance(key, (str, int)):
        raise pickle.UnpicklingError(f"a dict has a key of type {type(key).__name__}.")
    return key


class _Unpickler(pickle.Unpickler):
    """Admits the names in `find_class`; `storage(dtype, key, count)` answers torch's references to its storages."""

    def __init__(self, file, storage, room):
        super().__init__(file)
        self._storage = storage
        self._known = {**_NAMES, "_codecs.encode": _Latin1(room)}

    def find_class(self, module, name):
        known = self._known.get(f"{module}.{name}")
        if known is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}; only tensors and plain containers are admitted.")
        return known

    def persistent_load(self, reference):
        kind, dtype, key, _, count, *_ = reference
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, (str, int)):
            raise pickle.UnpicklingError("it refers to something that is no storage.")
        return self._storage(dtype, str(key), operator.index(count))


class _Callable:
    """A function without attributes that a pickle could set."""

    __slots__ = ()


class _Tensor(_Callable):
    def __call__(self, storage, offset, shape, strides, *_):
        """A view of `storage`; every element lies inside it."""
        offset, shape, strides = operator.index(offset), _sizes(shape), _sizes(strides)
        if not isinstance(storage, np.ndarray) or storage.ndim != 1:
            raise pickle.UnpicklingError("a tensor without a storage.")
        last = offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
        # No element lies outside, and there are not more of them than the storage has.
        if (
            min((offset, *shape, *strides)) < 0
            or math.prod(shape) > storage.size
            or (math.prod(shape) and last >= storage.size)
        ):
            raise pickle.UnpicklingError(f"a tensor of shape {shape} beyond the end of its storage.")
        return np.lib.stride_tricks.as_strided(storage[offset:], shape, [stride * storage.itemsize for stride in strides])


def _sizes(values):
    """Python's integers: numpy's overflow in a product."""
    return tuple(operator.index(value) for value in values)


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
    """Stands for a numpy array until the whole pickle is read."""

    __slots__ = ("value",)

    def __setstate__(self, state):
        _, shape, kind, fortran, elements = state
        self.value = np.frombuffer(elements, kind.dtype).reshape(shape, order="F" if fortran else "C")


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
    __slots__ = ("_room",)

    def __init__(self, room):
        self._room = room

    def __call__(self, text, encoding):
        self._room.take(len(text))
        return text.encode("latin1")


_ARRAY, _SCALAR, _FROM_BUFFER = _NewArray(), _Scalar(), _FromBuffer()
_NAMES = {
    "collections.OrderedDict": collections.OrderedDict,
    "torch._utils._rebuild_tensor_v2": _Tensor(),
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    **{f"numpy.{core}.multiarray._reconstruct": _ARRAY for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _SCALAR for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _FROM_BUFFER for core in ("core", "_core")},
    **{f"torch.{storage}": np.dtype(code) for storage, code in _STORAGES.items()},
}
