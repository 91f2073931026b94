"""A bundle's tables without a compiler: tables.cpp, with the structs of tinytrain_tables.h, as memory of this process.

Both files are the ones that a board is compiled from, so there is no second form of the tables that could differ. What is read
is the part of C++ that they are written in: structs of numbers and pointers, enums, constants with an initialiser.
"""

import ctypes
import json
import pathlib
import re

_SCALARS = {
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
_ENUM = re.compile(r"enum class (\w+) : ([\w:]+) \{(.*?)\};", re.DOTALL)
_STRUCT = re.compile(r"struct (\w+) \{(.*?)\n\};", re.DOTALL)
_FIELD = re.compile(r"(?:const )?([\w:]+)(\*?) (\w+)(?:\[(\d+)\])?;")
_VERSION = re.compile(r"constexpr std::uint32_t (kTablesVersion) = (\d+);")
_ASSERTED = re.compile(r"static_assert\(tinytrain::kTablesVersion == (\d+)")
_CONSTANT = re.compile(r"^const (?:tinytrain::)?([\w:]+) (\w+)(\[\])? = ", re.MULTILINE)
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[\w:.+-]+|[{}(),;]')
_TABLES, _BYTES = "kTables", "kTablesBytes"


class ReadTables:
    """The `Tables` of a bundle, and all that it points to, for as long as this object lives.

    Args:
        source: the bundle's tables.cpp. It must be one that `Bundle.check` has found unaltered.
        header: tinytrain_tables.h of the runtime.
        trainable: the bytes of trainable.tflite, in which the initial weights lie.

    Attributes:
        address: where the `Tables` struct lies.
        num_bytes: what the tables take, kernels and biases not counted; kTablesBytes of tables.cpp.

    Raises:
        ValueError: the tables were exported for another version of the runtime, or are not written as this release writes them.
    """

    def __init__(self, source: pathlib.Path, header: pathlib.Path, trainable: bytes):
        self._types, self._names = _read_header(_without_comments(header))
        self._model = ctypes.create_string_buffer(trainable, len(trainable))
        self._constants = {}
        text = _without_comments(source)
        self._check_version(source, text)
        try:
            for found in _CONSTANT.finditer(text):
                kind, name, is_array = found.groups()
                if name != _BYTES:
                    self._constants[name] = self._constant(self._types[kind], is_array, _parsed(text[found.end() :]))
            self.address = ctypes.addressof(self._constants[_TABLES])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ValueError(f"{source} is not written as this release of keras-tinytrain writes it: {error!r}") from error
        self.num_bytes = sum(map(ctypes.sizeof, self._constants.values()))

    def _check_version(self, source, text):
        exported, ours = _ASSERTED.search(text), self._names["kTablesVersion"]
        if not exported or int(exported[1]) != ours:
            found = f"version {exported[1]}" if exported else "no version"
            raise ValueError(
                f"{source} was exported for {found} of the runtime, this is version {ours}: export the bundle again."
            )

    def _constant(self, kind, is_array, value):
        if kind is ctypes.c_char:
            return ctypes.create_string_buffer(json.loads(value).encode())
        return self._value((kind * len(value)) if is_array else kind, value)

    def _value(self, kind, value):
        """What is written as `value` as a `kind`; a list where braces stood."""
        if issubclass(kind, ctypes.Structure):
            return kind(*(self._value(field, part) for (_, field), part in zip(kind._fields_, value, strict=True)))
        if issubclass(kind, ctypes.Array):
            return kind(*(self._value(kind._type_, part) for part in value))
        if kind is ctypes.c_void_p:
            return self._address(value)
        if kind is ctypes.c_float:
            return float(value.rstrip("f"))
        if kind is ctypes.c_bool:
            return {"true": True, "false": False}[value]
        return self._names[value.removeprefix("tinytrain::")] if "k" in value else int(value.rstrip("u"))

    def _address(self, value):
        """Of another constant by its name, or of an initial weight by its offset into the model; None for nullptr."""
        if isinstance(value, tuple):  # TINYTRAIN_KERNEL(offset), TINYTRAIN_BIAS(offset)
            offset = int(value[1])
            if not 0 <= offset < len(self._model):
                raise IndexError(f"offset {offset} of a model of {len(self._model)} bytes")
            return ctypes.addressof(self._model) + offset
        return None if value == "nullptr" else ctypes.addressof(self._constants[value])


def _read_header(text):
    """({type: ctypes class}, {"Enum::kName" or "kTablesVersion": number}) of tinytrain_tables.h."""
    types, names = dict(_SCALARS), {name: int(value) for name, value in _VERSION.findall(text)}
    for enum, kind, body in _ENUM.findall(text):
        types[enum] = types[kind]
        names |= {f"{enum}::{name}": int(value) for name, value in re.findall(r"(\w+) = (\d+)", body)}
    for struct, body in _STRUCT.findall(text):
        fields = []
        for kind, pointer, name, length in _FIELD.findall(body):
            field = ctypes.c_void_p if pointer else types[kind]
            fields.append((name, field * int(length) if length else field))
        types[struct] = type(struct, (ctypes.Structure,), {"_fields_": fields})
    return types, names


def _without_comments(file):
    return re.sub(r"//[^\n]*", "", file.read_text(encoding="utf-8"))


def _parsed(text):
    """The initialiser at the beginning of `text`: a token, or a list for braces, with a pair for MACRO(argument)."""
    tokens = _TOKEN.finditer(text)
    token = next(tokens)[0]
    return _braces(tokens) if token == "{" else token


def _braces(tokens):
    values = []
    for found in tokens:
        token = found[0]
        if token == "}":
            return values
        if token == "{":
            values.append(_braces(tokens))
        elif token == "(":
            values[-1] = (values[-1], next(tokens)[0])
        elif token not in ",)":
            values.append(token)
    raise IndexError("a brace is not closed")
