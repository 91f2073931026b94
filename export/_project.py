"""A bundle as a project of a build system: the generated sources, a program around them, and the files that build it."""

import importlib.resources
import pathlib
import typing

from keras_tinytrain.export.templates import render

_SOURCES = {"arduino": "", "platformio": "", "esp-idf": "main/", "zephyr": "src/", "cmake": ""}  # folder of the sources
_SKETCHES = ("arduino", "platformio")  # their program is the sketch
_PARTITIONS = "partitions.csv"


def sketch_files(facts: dict[str, typing.Any], sources: dict[str, bytes]) -> dict[str, bytes]:
    """{file: contents} of the Arduino sketch. It has the sources once more, because the IDE compiles its folder only.

    Args:
        facts: what the manifest says.
        sources: {file: contents} of the generated tables, models and learner.
    """
    return {**sources, "sketch.ino": _rendered("sketch.ino.j2", facts), **_partitions(facts)}


def project_files(facts: dict[str, typing.Any], sources: dict[str, bytes]) -> dict[str, bytes]:
    """{path: contents} of the project for facts["project"]."""
    project = facts["project"]
    folder = _SOURCES[project]
    if project in _SKETCHES:  # the IDE wants the sketch to have its folder's name
        program = sketch_files(facts, sources)
        program[f"{facts['namespace']}.ino"] = program.pop("sketch.ino")
    else:
        program = {**sources, "main.cpp": _rendered("main.cpp.j2", facts)}
    root = pathlib.PurePosixPath("projects", project)
    build = {path: _rendered((root / f"{path}.j2").as_posix(), facts) for path in _templates(project)}
    partitions = _partitions(facts) if project == "esp-idf" else {}
    return {**build, **partitions, **{f"{folder}{name}": data for name, data in program.items()}}


def camera_frame_bytes(channels: int) -> int:
    """A camera's picture of 160 x 120 pixels: one byte each for grey, two for colour. On an ESP32 it lies in PSRAM."""
    return 160 * 120 * (2 if channels == 3 else 1)


def _templates(project: str) -> list[str]:
    """Paths of the build system's own files."""
    root = pathlib.Path(str(importlib.resources.files(__package__))) / "templates" / "projects" / project
    return sorted(file.relative_to(root).as_posix().removesuffix(".j2") for file in root.rglob("*.j2"))


def _partitions(facts: dict[str, typing.Any]) -> dict[str, bytes]:
    """The table of an ESP32's flash, which has a partition for deltas and samples; other boards do not read it."""
    from keras_tinytrain.tflm_runtime import source_dir

    return {_PARTITIONS: (source_dir().parent / _PARTITIONS).read_bytes()} if facts["flash"]["deltas"] else {}


def _rendered(template: str, facts: dict[str, typing.Any]) -> bytes:
    return render(template, camera_frame=camera_frame_bytes(facts["input"]["channels"]), **facts).encode()
