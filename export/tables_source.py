"""What a bundle's tables.cpp says: its constants, read by the grammar that the exporter writes. Nothing is compiled or run.

The text can be written anew from what was read, so that a compiler never sees a stranger's own words.
"""

import collections.abc
import dataclasses
import json
import re
import typing

# An initialiser: a token, or a list where braces stood. A weight of the model is one token: TINYTRAIN_KERNEL(offset).
Value = typing.Any
TABLES, TABLES_BYTES = "kTables", "kTablesBytes"
MAPS = "kMaps"  # of a closed-form head; few bundles have them
_DEEPEST = 4  # braces within braces
_SPACE = r"\s+|//(?:[^\n]*[^\n\\])?(?=\n)"  # a comment that ends in a backslash would hide the next line from a compiler
_FRAME = re.compile(
    _SPACE
    + r"""
    |\#include\ "(?:tables|models)\.h"
    |\#define\ TINYTRAIN_KERNEL\(offset\)\ reinterpret_cast<const\ std::int8_t\*>\(g_trainable_model_data\ \+\ \(offset\)\)(?=\n)
    |\#define\ TINYTRAIN_BIAS\(offset\)\ reinterpret_cast<const\ std::int32_t\*>\(g_trainable_model_data\ \+\ \(offset\)\)(?=\n)
    |namespace\ (?P<namespace>bundle_\w*)\ \{|namespace\ \{|\}
    |static_assert\(tinytrain::kTablesVersion\ ==\ \d+,\s*"[^"\\\n]*"\);
    |using\ tinytrain::(?:Activation|Operator);
    |const\ std::size_t\ kTablesBytes\ =[\s\w+()]*;
    |const\ (?:tinytrain::)?(?P<kind>(?:std::)?\w+)\ (?P<name>k[A-Z]\w*)(?P<is_array>\[\])?\ =
    """,
    re.ASCII | re.VERBOSE,
)
_TOKEN = re.compile(
    _SPACE
    + r'|("(?:\\.|[^"\\\n])*"|TINYTRAIN_(?:KERNEL|BIAS)\((?:0|[1-9]\d{0,17})\)|-?\d[\w.]*(?:(?<=e)[+-]\d+f)?|[A-Za-z_][\w:]*|[{};])|,',
    re.ASCII,
)


@dataclasses.dataclass(frozen=True)
class Constant:
    """`const <kind> <name> = <value>;`, an array or not."""

    kind: str
    name: str
    is_array: bool
    value: Value


@dataclasses.dataclass(frozen=True)
class TablesSource:
    """The constants of a tables.cpp in their order, and its namespace."""

    namespace: str
    constants: tuple[Constant, ...]

    @classmethod
    def parse(cls, text: str) -> "TablesSource":
        """Read the whole text. Raises ValueError, with the line, where it is not what an export writes."""
        namespaces: list[str] = []
        constants: list[Constant] = []
        position = 0
        while position < len(text):
            found = _match(_FRAME, text, position)
            position = found.end()
            if found["namespace"]:
                namespaces.append(found["namespace"])
            if found["kind"]:
                value, position = _initialiser(text, position)
                constants.append(Constant(found["kind"], found["name"], bool(found["is_array"]), value))
        if len(namespaces) != 1 or len({each.name for each in constants}) != len(constants):
            raise ValueError("it must have one namespace, and one constant of each name")
        return cls(namespaces[0], tuple(constants))


def written(source: TablesSource) -> str:
    """The text of a tables.cpp that says the same."""
    head = '#include "tables.h"\n#include "models.h"\n'
    for macro, kind in {"KERNEL": "int8_t", "BIAS": "int32_t"}.items():
        head += f"#define TINYTRAIN_{macro}(at) reinterpret_cast<const std::{kind}*>(g_trainable_model_data + (at))\n"
    sizes = " + ".join(f"sizeof({each.name})" for each in source.constants)
    constants = "".join(map(_declaration, source.constants))
    return f"{head}namespace {source.namespace} {{\n{constants}const std::size_t {TABLES_BYTES} = {sizes};\n}}\n"


def _declaration(constant: Constant) -> str:
    linkage = "" if constant.name in (TABLES, MAPS) else "static "
    kind = constant.kind if constant.kind[0].islower() else f"tinytrain::{constant.kind}"
    return f"{linkage}const {kind} {constant.name}{'[]' if constant.is_array else ''} = {_text(constant.value)};\n"


def _text(value: Value) -> str:
    if isinstance(value, list):
        return "{" + ", ".join(map(_text, value)) + "}"
    if value.startswith('"'):
        return '"' + "".join(f"\\{byte:03o}" for byte in json.loads(value).encode()) + '"'
    return f"tinytrain::{value}" if re.match(r"[A-Z]\w*::", value) else value


def _initialiser(text: str, position: int) -> tuple[Value, int]:
    """(the value that begins here, where the text goes on after its semicolon)."""
    open_lists: list[list[Value]] = [[]]
    for found in _matches(_TOKEN, text, position):
        token = found[1]
        if token == ";":
            break
        if token == "{":
            open_lists.append([])
        elif token == "}" and len(open_lists) > 1:
            open_lists[-2].append(open_lists.pop())
        elif token and token != "}":
            open_lists[-1].append(token)
        if len(open_lists) > _DEEPEST or (token == "}" and len(open_lists) == 1 and not open_lists[0]):
            raise ValueError(f"line {_line(text, found.start())}: braces do not match")
    if len(open_lists) != 1 or len(open_lists[0]) != 1:
        raise ValueError(f"line {_line(text, position)}: no single value ends in a semicolon")
    return open_lists[0][0], found.end()


def _matches(pattern: re.Pattern[str], text: str, position: int) -> collections.abc.Iterator[re.Match[str]]:
    while position < len(text):
        found = _match(pattern, text, position)
        yield found
        position = found.end()


def _match(pattern: re.Pattern[str], text: str, position: int) -> re.Match[str]:
    found = pattern.match(text, position)
    if found is None or found.end() == position:
        raise ValueError(f"line {_line(text, position)}: {text[position : position + 40].splitlines()[0]!r}")
    return found


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
