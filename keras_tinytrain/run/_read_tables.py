"""A bundle's tables without a compiler: tables.cpp, with the structs of tinytrain_tables.h, as memory of this process.

Both files are the ones that a board is compiled from, so there is no second form of the tables that could differ. This reads the
part of C++ that they are written in: numbers, enumerators, pointers and braces.
"""

import collections.abc
import ctypes
import json
import pathlib
import re
import typing

from keras_tinytrain.run._tables_version import fields_lacking
from keras_tinytrain.tflm_runtime.headers import SCALARS, constant, enums, structs

HEADER = "tinytrain_tables.h"
_CONSTANT = re.compile(r"^const (?:tinytrain::)?([\w:]+) (\w+)(\[\])? = ", re.MULTILINE)
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[\w:.+-]+|[{}(),;]')
_TABLES, _BYTES = "kTables", "kTablesBytes"
_Value = typing.Any  # an initialiser: a token, a list where braces stood, a pair (macro, argument)


class ReadTables:
    """The `Tables` of a bundle and everything that they point to, for as long as this object lives.

    Args:
        source: the bundle's tables.cpp. `Bundle.check` must have found it unaltered.
        trainable: the bytes of trainable.tflite, which holds the initial weights.

    Attributes:
        address: of the `Tables` struct.
        num_bytes: size of the tables, kernels and biases not counted; kTablesBytes of tables.cpp.

    Raises:
        ValueError: the tables were exported for another version of the runtime, or are not written as this release writes them.
    """

    def __init__(self, source: pathlib.Path, trainable: bytes):
        self._types = SCALARS | structs(HEADER)
        self._names = {"kTablesVersion": constant(HEADER, "kTablesVersion")}
        self._names |= {f"{enum}::{name}": value for enum, names in enums(HEADER).items() for name, value in names.items()}
        self._model = ctypes.create_string_buffer(trainable, len(trainable))
        self._constants: dict[str, typing.Any] = {}
        self._lacking = fields_lacking(source)
        text = re.sub(r"//[^\n]*", "", source.read_text(encoding="utf-8"))
        try:
            for found in _CONSTANT.finditer(text):
                kind, name, is_array = found.groups()
                if name != _BYTES:
                    self._constants[name] = self._constant(self._types[kind], bool(is_array), _parsed(text[found.end() :]))
            self.address = ctypes.addressof(self._constants[_TABLES])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ValueError(f"{source} is not written as this release of keras-tinytrain writes it: {error!r}") from error
        self.num_bytes = sum(map(ctypes.sizeof, self._constants.values()))

    def _constant(self, kind: typing.Any, is_array: bool, value: _Value) -> typing.Any:
        if kind is ctypes.c_char:
            return ctypes.create_string_buffer(json.loads(value).encode())
        return self._value((kind * len(value)) if is_array else kind, value)

    def _value(self, kind: typing.Any, value: _Value) -> typing.Any:
        """What is written as `value`, as a `kind`."""
        if issubclass(kind, ctypes.Structure):
            return self._struct(kind, value)
        if issubclass(kind, ctypes.Array):
            return kind(*(self._value(kind._type_, part) for part in value))
        if kind is ctypes.c_void_p:
            return self._address(value)
        if kind is ctypes.c_float:
            return float(value.rstrip("f"))
        if kind is ctypes.c_bool:
            return {"true": True, "false": False}[value]
        return self._names[value.removeprefix("tinytrain::")] if "k" in value else int(value.rstrip("u"))

    def _struct(self, kind: typing.Any, values: list[_Value]) -> typing.Any:
        """Fields that tables of an earlier version lack are 0."""
        fields = [field for field in kind._fields_ if field[0] not in self._lacking.get(kind.__name__, ())]
        return kind(**{name: self._value(field, value) for (name, field), value in zip(fields, values, strict=True)})

    def _address(self, value: _Value) -> int | None:
        """Of another constant by its name, or of an initial weight by its offset into the model; None for nullptr."""
        if isinstance(value, tuple):  # TINYTRAIN_KERNEL(offset), TINYTRAIN_BIAS(offset)
            offset = int(value[1])
            if not 0 <= offset < len(self._model):
                raise IndexError(f"offset {offset} of a model of {len(self._model)} bytes")
            return ctypes.addressof(self._model) + offset
        return None if value == "nullptr" else ctypes.addressof(self._constants[value])


def _parsed(text: str) -> _Value:
    """The initialiser at the beginning of `text`."""
    tokens = _TOKEN.finditer(text)
    token = next(tokens)[0]
    return _braces(tokens) if token == "{" else token


def _braces(tokens: collections.abc.Iterator[re.Match[str]]) -> list[_Value]:
    values: list[_Value] = []
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
