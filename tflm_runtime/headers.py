"""What Python and C++ share, read from the C++ headers: none of it is written down a second time.

The part of C++ that is read: integer constants, byte arrays, enums, and structs of numbers, enums and pointers. It needs no
compiler and no TensorFlow. Nothing is executed.
"""

import ctypes
import functools
import re
import typing

from keras_tinytrain.tflm_runtime import source_dir

CType = typing.Any  # a class of ctypes: a number, a pointer, an array or a struct
_Value = typing.TypeVar("_Value")
SCALARS: dict[str, CType] = {
    "bool": ctypes.c_bool,
    "float": ctypes.c_float,
    "char": ctypes.c_char,
    "std::int8_t": ctypes.c_int8,
    "std::uint8_t": ctypes.c_uint8,
    "std::int16_t": ctypes.c_int16,
    "std::uint16_t": ctypes.c_uint16,
    "std::int32_t": ctypes.c_int32,
    "std::uint32_t": ctypes.c_uint32,
    "std::size_t": ctypes.c_size_t,
}
_CONSTANTS = re.compile(r"\bconstexpr [\w:]+ (\w+ = [^;(){}]+);")
_BYTES = re.compile(r"\bconstexpr std::uint8_t (\w+)\[\d+\] = \{(.*?)\};")
_ENUM = re.compile(r"\benum class (\w+) : ([\w:]+) \{(.*?)\};", re.DOTALL)
_STRUCT = re.compile(r"\bstruct (\w+) \{(.*?)\n\};", re.DOTALL)
_FIELD = re.compile(r"(?:const )?([\w:]+)(\*?) (\w+)(?:\[(\d+)\])?(?: = [^;]+)?;")


def constant(header: str, name: str) -> int:
    """The value of `constexpr <type> <name> = <number>;`.

    Args:
        header: path of the header below `source_dir()`.
        name: such as "kFlashBlockBytes".

    Raises:
        KeyError: the header has no such constant.

    Example:
        >>> constant("tinytrain_flash.h", "kFlashBlockBytes")
        256
    """
    return _found(_constants(header), header, "integer constant", name)


def byte_string(header: str, name: str) -> bytes:
    """The value of `constexpr std::uint8_t <name>[] = {'A', 'B', ...};`.

    Example:
        >>> byte_string("tinytrain_delta.h", "kDeltaMagic")
        b'TTDL'
    """
    arrays = {array: "".join(re.findall(r"'(.)'", body)).encode() for array, body in _BYTES.findall(_code(header))}
    return _found(arrays, header, "array of bytes", name)


def enum(header: str, name: str) -> dict[str, int]:
    """The enumerators of `enum class <name>` and their values, in the header's order.

    Raises:
        KeyError: the header has no such enum.

    Example:
        >>> enum("tinytrain_tables.h", "Head")
        {'kPrototypes': 0, 'kSoftmax': 1}
    """
    return _found(enums(header), header, "enum", name).copy()


def names(header: str, name: str) -> dict[str, str]:
    """The enumerators of `enum class <name>` by their names in Python, in the header's order.

    Example:
        >>> names("tinytrain_tables.h", "WeightStorage")
        {'float_masters': 'kFloatMasters', 'int8': 'kInt8'}
    """
    return {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", each[1:]).lower(): each for each in enum(header, name)}


def struct(header: str, name: str) -> type[ctypes.Structure]:
    """`struct <name>` with the layout that this host's compiler gives it; pointers are `c_void_p`.

    Raises:
        KeyError: the header has no such struct.

    Example:
        >>> ctypes.sizeof(struct("tinytrain_tables.h", "View"))
        6
    """
    return _found(structs(header), header, "struct", name)


@functools.cache
def enums(header: str) -> dict[str, dict[str, int]]:
    """{name: {enumerator: value}} of every enum of a header."""
    return {name: _enumerators(body) for name, _, body in _ENUM.findall(_code(header))}


@functools.cache
def structs(header: str) -> dict[str, type[ctypes.Structure]]:
    """{name: layout} of every struct of a header. Their fields must be numbers, enums, pointers, or structs above them.

    Raises:
        ValueError: a struct holds anything else. It is named.
    """
    types = SCALARS | {name: SCALARS[kind] for name, kind, _ in _ENUM.findall(_code(header))}
    found: dict[str, type[ctypes.Structure]] = {}
    for name, body in _STRUCT.findall(_code(header)):
        found[name] = type(name, (ctypes.Structure,), {"_fields_": _fields(name, body, types | found)})
    return found


@functools.cache
def _constants(header: str) -> dict[str, int]:
    """Several may stand in one declaration: `constexpr int kOne = 1, kTwo = 2;`."""
    declared = (part.split(" = ") for found in _CONSTANTS.findall(_code(header)) for part in found.split(", "))
    return {name: int(value) for name, value in declared if re.fullmatch(r"-?\d+", value)}


@functools.cache
def _code(header: str) -> str:
    """A header without its comments."""
    return re.sub(r"//[^\n]*", "", (source_dir() / header).read_text(encoding="utf-8"))


def _enumerators(body: str) -> dict[str, int]:
    """As C++ counts: an enumerator without a value is one more than the enumerator above it."""
    values: dict[str, int] = {}
    for name, value in re.findall(r"(\w+)(?: = (\d+))?\s*(?:,|$)", body.strip()):
        values[name] = int(value) if value else max(values.values(), default=-1) + 1
    return values


def _fields(struct: str, body: str, types: dict[str, CType]) -> list[tuple[str, CType]]:
    fields = _FIELD.findall(body)
    unread = [_FIELD.sub("", body).strip(), *(kind for kind, pointer, *_ in fields if not pointer and kind not in types)]
    if any(unread):
        raise ValueError(f"struct {struct} holds more than numbers, enums, pointers and structs above it: {unread}")
    return [(name, _field_type(types.get(kind), pointer, length)) for kind, pointer, name, length in fields]


def _field_type(kind: CType, pointer: str, length: str) -> CType:
    field = ctypes.c_void_p if pointer else kind
    return field * int(length) if length else field


def _found(values: dict[str, _Value], header: str, what: str, name: str) -> _Value:
    if name not in values:
        raise KeyError(f"{header} has no {what} {name}. It has: {', '.join(values) or 'none'}.")
    return values[name]
