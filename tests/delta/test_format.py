"""The numbers of a delta's format, against the C++ headers; and a delta read where there is no Keras."""

import ast
import re
import subprocess
import sys

import numpy as np
import pytest

from keras_tinytrain.delta import ChannelValues, Delta
from keras_tinytrain.tflm_runtime import delta_format, source_dir


def defined(header, name):
    """The number or the characters that a C++ header gives to the constant `name`."""
    text = (source_dir() / header).read_text(encoding="utf-8")
    found = re.search(rf"\b{name}(?:\[\d+\])? = (\d+|{{[^}}]*}})", text)
    assert found, f"{header} has no {name}"
    return ast.literal_eval(found[1].replace("{", "[").replace("}", "]"))


def test_magic_and_version_are_the_headers():
    assert "".join(defined("tinytrain_delta.h", "kDeltaMagic")).encode() == delta_format.MAGIC
    assert defined("tinytrain_delta.h", "kDeltaVersion") == delta_format.VERSION


def test_flags_types_and_sizes_are_the_headers():
    header = "tinytrain/delta/format.h"
    assert (defined(header, "kHasBias"), defined(header, "kHasPrevious")) == (delta_format.HAS_BIAS, delta_format.HAS_PREVIOUS)
    assert defined(header, "kFloat32Values") == delta_format.FLOAT32_VALUES
    assert defined(header, "kInt8Values") == delta_format.INT8_VALUES
    empty = Delta(bytes(32), ()).to_bytes()
    assert len(empty) == defined(header, "kDeltaHeaderBytes") + defined(header, "kDeltaCrcBytes")


def test_name_longer_than_the_format_allows_is_refused():
    longest = defined("tinytrain_delta.h", "kMaxNameBytes")
    assert longest == delta_format.MAX_NAME_BYTES
    values = np.zeros((1, 2), np.float32)
    named = Delta(bytes(32), (ChannelValues("n" * longest, (0,), values, None),))
    assert Delta.from_bytes(named.to_bytes()).records[0].name == "n" * longest
    with pytest.raises(ValueError, match="has a name of 256 bytes; a delta holds at most 255"):
        Delta(bytes(32), (ChannelValues("n" * (longest + 1), (0,), values, None),)).to_bytes()


def test_deltas_are_merged_without_keras():
    code = (
        "import sys; from keras_tinytrain import Delta; d = Delta(bytes(32), ());"
        "assert Delta.from_bytes(d.to_bytes()).merge(d) == d; assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
