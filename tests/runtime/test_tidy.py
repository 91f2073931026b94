"""clang-tidy finds nothing in the C++ sources, by the rules of .clang-tidy, and would find something."""

import shutil
import subprocess

import pytest

from tests.runtime.paths import ROOT, SOURCES

pytestmark = pytest.mark.skipif(shutil.which("clang-tidy") is None, reason="needs apt-get install clang-tidy")


def tidy(*files):
    command = ["clang-tidy", "--quiet", f"--config-file={ROOT / '.clang-tidy'}", *files]
    return subprocess.run(
        [*command, "--", "-std=gnu++14", f"-I{SOURCES}", "-fno-exceptions", "-fno-rtti"], capture_output=True, text=True
    )


def test_sources_are_clean():
    run = tidy(*sorted(SOURCES.rglob("*.cpp")))
    assert run.returncode == 0, run.stdout


def test_mistake_is_found(tmp_path):
    (tmp_path / "bad.cpp").write_text("namespace tinytrain {\nint badName(int* p) { return sizeof(p) / sizeof(*p); }\n}\n")
    run = tidy(tmp_path / "bad.cpp")
    assert run.returncode != 0
    assert "bugprone-sizeof-expression" in run.stdout and "readability-identifier-naming" in run.stdout
