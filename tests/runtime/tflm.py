"""C++ TensorFlow Lite Micro from a package of the registry, in a cache folder of the user: an optional part of the tests."""

import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import pytest

PACKAGE = "xmos-ai-tools==1.4.2"  # holds C++ TFLM of October 2023 in namespace tflite_micro; never shipped, never required
NAMESPACE = "tflite_micro"
GEMMLOWP = pathlib.Path("/usr/include/gemmlowp")  # Debian's libgemmlowp-dev, which TFLM's headers include


@dataclasses.dataclass(frozen=True)
class Tflm:
    """A compiler's arguments: include directories, flags before the sources, and the library after them; its namespace."""

    includes: tuple[str, ...]
    flags: tuple[str, ...]
    library: tuple[str, ...]
    namespace: str = NAMESPACE


@pytest.fixture(scope="session")
def tflm():
    """The C++ library, downloaded on first use; a sentence where that cannot be."""
    if not sys.platform.startswith("linux"):
        pytest.skip(f"{PACKAGE} holds TensorFlow Lite Micro for Linux only")
    if not GEMMLOWP.is_dir():
        pytest.skip("needs apt-get install libgemmlowp-dev")
    folder = _unpacked()
    library = folder / "xmos_ai_tools" / "xinterpreters" / "libs" / "linux"
    includes = str(folder / "xmos_ai_tools" / "runtime" / "include"), str(GEMMLOWP)
    return Tflm(
        includes=includes,
        flags=("-DXCORE", f"-DTFLM={NAMESPACE}", *(flag for include in includes for flag in ("-isystem", include))),
        library=(str(library / "xtflm_python.so"), f"-Wl,-rpath,{library}"),
    )


def _unpacked():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "keras-tinytrain-tests"
    target = cache / PACKAGE.replace("==", "-")
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", scratch, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{PACKAGE} could not be downloaded: {done.stderr.strip()[-300:]}")
        (wheel,) = pathlib.Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            wanted = [
                name
                for name in archive.namelist()
                if "/include/" in name or "xmos_ai_tools.libs/" in name or name.endswith("/xtflm_python.so")
            ]
            archive.extractall(pathlib.Path(scratch, "unpacked"), wanted)
        (library,) = pathlib.Path(scratch, "unpacked").rglob("xtflm_python.so")
        library.with_name("xtflm_python.so.1.0.1").symlink_to(library.name)  # its soname, for which a program looks
        try:
            pathlib.Path(scratch, "unpacked").rename(target)
        except OSError:  # another run was faster
            if not target.is_dir():
                raise
    return target
