"""The reader of the C++ headers, against the C++ compiler."""

import ctypes
import os
import subprocess
import sys

import pytest

from keras_tinytrain.choose.training_memory import OPTIMIZERS
from keras_tinytrain.tflm_runtime import delta_format, headers, source_dir

TABLES = "tinytrain_tables.h"


def compiled(tmp_path, includes, expressions):
    """The integers that the C++ compiler gives these expressions."""
    lines = "\n".join(f'  std::printf("%lld\\n", static_cast<long long>({expression}));' for expression in expressions)
    included = "\n".join(f'#include "{header}"' for header in includes)
    source, program = tmp_path / "program.cpp", tmp_path / "program"
    source.write_text(f"#include <cstdio>\n{included}\nusing namespace tinytrain;\nint main() {{\n{lines}\n}}\n")
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, "-std=c++14", "-w", f"-I{source_dir()}", source, "-o", program], check=True)
    return [int(line) for line in subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()]


@pytest.mark.parametrize(
    "header",
    ["tinytrain_tables.h", "tinytrain_flash.h", "tinytrain_delta.h", "tinytrain/delta/format.h", "tinytrain/trainer/check.h"],
)
def test_constants_equal_the_compilers(tmp_path, header):
    names = list(headers._constants(header))
    assert names
    assert [headers.constant(header, name) for name in names] == compiled(tmp_path, [header], names)


@pytest.mark.parametrize("header", [TABLES, "tinytrain_status.h"])
def test_enums_equal_the_compilers(tmp_path, header):
    pairs = [(enum, name) for enum, values in headers.enums(header).items() for name in values]
    ours = [headers.enum(header, enum)[name] for enum, name in pairs]
    assert ours == compiled(tmp_path, [header], [f"{enum}::{name}" for enum, name in pairs])


def test_every_enum_and_struct_of_the_tables_is_known():
    text = (source_dir() / TABLES).read_text()
    assert text.count("\nenum class ") == len(headers.enums(TABLES))
    assert text.count("\nstruct ") == len(headers.structs(TABLES))


def test_structs_have_the_compilers_layout(tmp_path):
    structs = headers.structs(TABLES)
    places = [(name, field) for name, struct in structs.items() for field, *_ in struct._fields_]
    ours = [ctypes.sizeof(struct) for struct in structs.values()]
    ours += [getattr(structs[name], field).offset for name, field in places]
    asked = [f"sizeof({name})" for name in structs] + [f"offsetof({name}, {field})" for name, field in places]
    assert ours == compiled(tmp_path, ["cstddef", TABLES], asked)


def test_a_struct_of_more_than_numbers_and_pointers_is_named():
    with pytest.raises(ValueError, match="struct Flash holds more than numbers, enums, pointers"):
        headers.structs("tinytrain_flash.h")


@pytest.mark.parametrize("read", [headers.constant, headers.byte_string, headers.enum, headers.struct])
def test_an_unknown_name_is_named_with_what_the_header_has(read):
    with pytest.raises(KeyError, match=r"tinytrain_tables\.h has no .* kUnknown\. It has: "):
        read(TABLES, "kUnknown")


def test_byte_strings_are_read():
    assert headers.byte_string("tinytrain_delta.h", "kDeltaMagic") == b"TTDL"


def test_headers_are_read_without_tensorflow_and_numpy():
    code = (
        "import sys; from keras_tinytrain.tflm_runtime.headers import structs; structs('tinytrain_tables.h');"
        "print(sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"


def test_the_header_of_a_delta_has_the_size_of_the_runtimes():
    assert delta_format.HEADER.size == headers.constant("tinytrain/delta/format.h", "kDeltaHeaderBytes")
    assert delta_format.CRC.size == headers.constant("tinytrain/delta/format.h", "kDeltaCrcBytes")


def test_python_optimizers_are_those_of_the_header():
    assert list(OPTIMIZERS) == list(headers.names("tinytrain_tables.h", "Optimizer"))
