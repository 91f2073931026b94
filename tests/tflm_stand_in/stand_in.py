"""Compile the stand-in for TensorFlow Lite Micro as a library of its own, as users have theirs."""

import os
import pathlib
import subprocess

HERE = pathlib.Path(__file__).parent
INCLUDES = tuple(str(HERE / folder) for folder in ("include", "flatbuffers/include", "gemmlowp"))
CORTEX_M4F = ("-mcpu=cortex-m4", "-mthumb", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics")


def build(folder, *, float_abi="softfp", static_memory=True, scratch=False, flags=()):
    """An archive in `folder`, see README.md. Its static object with a destructor is destroyed as the compiler has it."""
    defines = [("TF_LITE_STATIC_MEMORY", static_memory), ("STAND_IN_SCRATCH", scratch)]
    options = ["-std=gnu++17", "-O2", *(f"-D{name}" for name, wanted in defines if wanted), *(f"-I{path}" for path in INCLUDES)]
    prefix = "arm-none-eabi-" if float_abi else ""
    if float_abi:
        options += [*CORTEX_M4F, f"-mfloat-abi={float_abi}", *(["-mfpu=fpv4-sp-d16"] if float_abi != "soft" else [])]
    objects = []
    for source in sorted((HERE / "src").glob("*.cpp")):
        objects.append(folder / f"{source.stem}.o")
        subprocess.run([f"{prefix}g++", *options, *flags, "-c", source, "-o", objects[-1]], check=True)
    library = folder / "libtensorflow-microlite.a"
    subprocess.run([f"{prefix}ar", "rcs", library, *objects], check=True)
    return library


def name(monkeypatch, library):
    """As a user names it, in two variables."""
    monkeypatch.setenv("TFLM_INCLUDE_DIRS", os.pathsep.join(INCLUDES))
    monkeypatch.setenv("TFLM_LIBRARY", str(library))
