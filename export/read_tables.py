"""A bundle's tables without a compiler: tables.cpp, with the structs of tinytrain_tables.h, as memory of this process.

Both files are the ones that a board is compiled from, so there is no second form of the tables that could differ. Values are
checked as they are read: a number fits its type, a pointer leads to a constant above it, an array is as long as the tables say.
"""

import ctypes
import json
import math
import pathlib
import re
import typing

from keras_tinytrain.export.tables_source import MAPS, TABLES, TablesSource, Value, written
from keras_tinytrain.export.tables_version import fields_lacking
from keras_tinytrain.tflm_runtime.headers import SCALARS, constant, enums, structs

HEADER = "tinytrain_tables.h"
_INTEGER, _FLOAT = re.compile(r"-?(0|[1-9]\d{0,18})u?"), re.compile(r"-?\d{1,40}\.?\d{0,40}(e[+-]?\d{1,3})?f")
_UNSIGNED = (ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_size_t)


class ReadTables:
    """The `Tables` of a bundle and everything that they point to, for as long as this object lives.

    Args:
        source: the bundle's tables.cpp.
        trainable: the bytes of trainable.tflite, which holds the initial weights.

    Attributes:
        tables: the `Tables` struct; pointers in it are addresses.
        address: of `tables`.
        namespace: of the tables in C++.
        maps: address of the `Maps` of a closed-form head; 0: there are none.
        num_bytes: size of the tables, kernels and biases not counted; kTablesBytes of tables.cpp.

    Raises:
        ValueError: the tables were exported for another version of the runtime, or are not written as this release writes them.
    """

    def __init__(self, source: pathlib.Path, trainable: bytes):
        self._types = SCALARS | structs(HEADER)
        self._enumerators = {f"{enum}::{name}": value for enum, names in enums(HEADER).items() for name, value in names.items()}
        self._model = ctypes.create_string_buffer(trainable, len(trainable))
        self._constants: dict[str, typing.Any] = {}
        self._lacking = fields_lacking(source)
        try:
            self._source = TablesSource.parse(source.read_text(encoding="utf-8"))
            for each in self._source.constants:
                self._constants[each.name] = self._constant(self._types[each.kind], each.is_array, each.value)
            self.tables = self._of_type(self._constants[TABLES], self._types["Tables"])
            maps = self._constants.get(MAPS)
            self._maps = None if maps is None else self._of_type(maps, self._types["Maps"], MAPS)
            self._check_lengths()
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"{source} is not written as this release of keras-tinytrain writes it: {error}") from error
        self.address = ctypes.addressof(self.tables)
        self.maps = 0 if self._maps is None else ctypes.addressof(self._maps)
        self.namespace = self._source.namespace
        self.num_bytes = sum(map(ctypes.sizeof, self._constants.values()))

    def written(self) -> str:
        """The text of a tables.cpp that says the same in this release's own words: what a compiler may be given."""
        return written(self._source)

    def array(self, address: int | None, kind: str, length: int) -> typing.Any:
        """The array of `length` structs or numbers at an address in the tables; empty where there is none and none is due.

        Raises:
            ValueError: no array of this type and length begins there.
        """
        if address is None and length == 0:
            return ()
        for name, found in self._constants.items():
            if isinstance(found, ctypes.Array) and ctypes.addressof(found) == address:
                return self._of_type(found, self._types[kind] * length, name)
        raise ValueError(f"a pointer leads to no {kind}[{length}]")

    def map_tensors(self) -> typing.Any:
        """Indices of the tensors that a closed-form head reads beside the embedding; empty where there is none."""
        return () if self._maps is None else self.array(self._maps.tensors, "std::int32_t", self._maps.num_maps)

    def text(self, address: int) -> str:
        """The name at an address in the tables."""
        return self._of_type(self._named(address), ctypes.Array).value.decode()

    def offset(self, address: int) -> int:
        """Where in trainable.tflite a weight lies."""
        return address - ctypes.addressof(self._model)

    def _check_lengths(self) -> None:
        """Everything that C++ reads by counting up to a number of the tables. Kernels and biases: `check_weights`."""
        tables = self.tables
        tensors = self.array(tables.tensors, "Tensor", tables.num_tensors)
        layers = self.array(tables.layers, "Layer", tables.num_layers)
        self.array(tables.views, "View", tables.num_views)
        self.map_tensors()
        if self._maps is not None:
            self.array(self._maps.bounds, "float", self._maps.num_bounds)
        for layer in layers:
            if not 0 <= layer.output < len(tensors):
                raise ValueError(f"a layer's output is tensor {layer.output} of {len(tensors)}")
            if layer.kernel_scales is not None:
                self.array(layer.kernel_scales, "float", tensors[layer.output].channels)
        for trained in self.array(tables.trained, "TrainedLayer", tables.num_trained):
            self._of_type(self._named(trained.name), ctypes.Array)
            if trained.channels is not None:
                self.array(trained.channels, "std::uint16_t", trained.num_channels)

    def _named(self, address: int | None) -> typing.Any:
        texts = (each for each in self._constants.values() if getattr(each, "_type_", None) is ctypes.c_char)
        return next((text for text in texts if ctypes.addressof(text) == address), None)

    @staticmethod
    def _of_type(value: typing.Any, kind: typing.Any, name: str = "a name") -> typing.Any:
        if not isinstance(value, kind):
            raise ValueError(f"{name} is expected to be {kind.__name__}, and is {type(value).__name__}")
        return value

    def _constant(self, kind: typing.Any, is_array: bool, value: Value) -> typing.Any:
        if kind is ctypes.c_char:
            text = json.loads(value).encode()
            if b"\0" in text:
                raise ValueError("a name holds a zero byte")
            return ctypes.create_string_buffer(text)
        return self._value((kind * len(value)) if is_array else kind, value)

    def _value(self, kind: typing.Any, value: Value) -> typing.Any:
        """What is written as `value`, as a `kind`."""
        if issubclass(kind, (ctypes.Structure, ctypes.Array)):
            return self._group(kind, self._of_type(value, list, "a struct or array"))
        text = self._of_type(value, str, "a number")
        if kind is ctypes.c_void_p:
            return self._address(text)
        if kind is ctypes.c_bool:
            return {"true": True, "false": False}[text]
        return _float(text) if kind is ctypes.c_float else self._integer(kind, text)

    def _group(self, kind: typing.Any, values: list[Value]) -> typing.Any:
        """Fields that tables of an earlier version lack are 0."""
        if issubclass(kind, ctypes.Array):
            if len(values) != kind._length_:
                raise ValueError(f"{len(values)} values of an array of {kind._length_}")
            return kind(*(self._value(kind._type_, part) for part in values))
        fields = [field for field in kind._fields_ if field[0] not in self._lacking.get(kind.__name__, ())]
        return kind(**{name: self._value(field, value) for (name, field), value in zip(fields, values, strict=True)})

    def _integer(self, kind: typing.Any, text: str) -> int:
        name = text.removeprefix("tinytrain::")
        if kind is ctypes.c_uint8 and name in self._enumerators:
            return self._enumerators[name]
        if kind is ctypes.c_uint32 and name == "kTablesVersion":
            return constant(HEADER, name)
        if not _INTEGER.fullmatch(text) or kind(int(text.rstrip("u"))).value != int(text.rstrip("u")):
            raise ValueError(f"{text} is no value of a {kind.__name__.removeprefix('c_')}")
        return int(text.rstrip("u"))

    def _address(self, text: str) -> int | None:
        """Of another constant by its name, or of an initial weight by its offset into the model; None for nullptr."""
        if text.startswith("TINYTRAIN_"):
            offset = int(text[text.index("(") + 1 : -1])
            if not 0 <= offset < len(self._model):
                raise ValueError(f"offset {offset} of a model of {len(self._model)} bytes")
            return ctypes.addressof(self._model) + offset
        return None if text == "nullptr" else ctypes.addressof(self._constants[text])


def _float(text: str) -> float:
    if not _FLOAT.fullmatch(text) or not math.isfinite(ctypes.c_float(float(text[:-1])).value):
        raise ValueError(f"{text} is no float")
    return float(text[:-1])
