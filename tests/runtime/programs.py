"""Sketches and other programs of bundles, built for this machine over the real C++ TensorFlow Lite Micro, at a terminal."""

import contextlib
import os
import subprocess
import zipfile

from tests.runtime.paths import ROOT
from tests.runtime.tflm import NAMESPACE

STANDINS = ROOT / "tests" / "runtime"
# Flash is written at 32-bit addresses by the stand-in of FlashIAP.
FLAGS = ("-std=gnu++17", "-O1", "-no-pie", "-fno-pie", f"-Dtflite={NAMESPACE}")


def install(build, prefix):
    """Build the runtime with CMake in one folder, install it in another, and return that."""
    for command in (
        ["cmake", "-S", ROOT / "tflm_runtime", "-B", build, f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DCMAKE_INSTALL_LIBDIR=lib"],
        ["cmake", "--build", build, "-j", "2"],
        ["cmake", "--install", build],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return prefix


def unpacked(bundle, folder):
    """(library, project) of the bundle's .zip, unpacked into `folder`."""
    with zipfile.ZipFile(bundle.path / "TinyTrain.zip") as archive:
        archive.extractall(folder)
    (project,) = (folder / "TinyTrain" / "examples").iterdir()
    return folder / "TinyTrain", project


def build(sources, includes, tflm, installed, target, *flags):
    """Compile `sources`, link them with the runtime and TensorFlow Lite Micro, and return the program."""
    folders = [f"-I{path}" for path in (*includes, installed / "include" / "tinytrain")]
    library = [installed / "lib" / "libtinytrain.a", *tflm.library]
    command = ["c++", *FLAGS, *flags, *tflm.flags, *folders, *sources, *library, "-o", target]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return target


def build_sketch(bundle, tflm, installed, folder, *flags, includes=()):
    """The bundle's sketch over the stand-in of Arduino's core."""
    sketch = bundle.path / "sketch"
    sources = [STANDINS / "arduino" / "main.cpp", sketch / "tables.cpp", sketch / "models.cpp"]
    includes = [with_arena_of_64_bits(sketch, folder), *includes, STANDINS / "arduino", sketch]
    return build(sources, includes, tflm, installed, folder / "sketch", *flags)


def with_arena_of_64_bits(sketch, folder):
    """A folder with copies of the program and learner.h: what is promised is a board's, whose pointers have 4 B, not 8."""
    for file in (*sketch.glob("sketch.ino"), *sketch.glob("main.cpp"), sketch / "learner.h"):
        text = file.read_text()
        (folder / file.name).write_text(text.replace("model_arena[kModelArenaBytes]", "model_arena[kModelArenaBytes + 4096]"))
    return folder


@contextlib.contextmanager
def running(program, **environment):
    """The terminal at which a freshly started program listens."""
    ours, theirs = os.openpty()
    process = subprocess.Popen([program], stdin=ours, stdout=ours, env={**os.environ, **environment})
    yield os.ttyname(theirs)
    process.kill()
    process.wait()
    os.close(ours)
    os.close(theirs)
