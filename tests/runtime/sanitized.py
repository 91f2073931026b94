"""C++ in 32 bits, as a board's, under the address and undefined behaviour sanitizers."""

import subprocess

import pytest

from tests.runtime.paths import SOURCES

FLAGS = ["-std=gnu++14", f"-I{SOURCES}", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1", "-O1"]
# A float that no integer can hold is an error, too; division by zero is IEEE arithmetic, and not listed.
FLAGS += ["-fsanitize=float-cast-overflow", "-D_GLIBCXX_ASSERTIONS"]
FLAGS_OF_32_BITS = ["-m32", "-msse2", "-mfpmath=sse", *FLAGS]  # floats are SSE's, not the x87's


def compile_sources(sources, folder, compiler=("g++", *FLAGS_OF_32_BITS), more=lambda source: ()):
    """Object files of these sources: one command for each, so that ccache has those that another test compiled.

    `more` gives flags for one source.
    """
    objects = [folder / f"{source.stem}.o" for source in sources]
    for source, target in zip(sources, objects):
        subprocess.run([*compiler, *more(source), "-c", source, "-o", target], check=True)
    return objects


def compile_runtime(folder):
    """Object files of the runtime; a skip where the compiler makes no programs of 32 bits."""
    probe = folder / "probe.cpp"
    probe.write_text("#include <vector>\nint main() { return 0; }\n")
    if subprocess.run(["g++", *FLAGS_OF_32_BITS, probe, "-o", folder / "probe"], capture_output=True).returncode:
        pytest.skip("needs apt-get install g++-multilib")
    return compile_sources(sorted(SOURCES.rglob("*.cpp")), folder)


def link(target, *files):
    """The program of these sources and objects."""
    subprocess.run(["g++", *FLAGS_OF_32_BITS, *files, "-o", target], check=True)
    return target
