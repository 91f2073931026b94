"""A bundle as a project of each build system: its files, and its program over stand-ins of the system's headers."""

import json
import pathlib
import subprocess

import numpy as np
import pytest
from models import images, labelled_images, tiny_net

from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.serial_port import Device
from tests.runtime.paths import ROOT
from tests.runtime.programs import FLAGS, STANDINS, build, build_sketch, running, unpacked, with_arena_of_64_bits
from tests.runtime.test_sources import needs_arm
from tests.runtime.tflm import NAMESPACE, tflm  # noqa: F401

WAYS, SHOTS = 3, 2
FLASH_FILE_BYTES = 1 << 16  # flash_file.h
ESP32 = ("-DESP_PLATFORM", "-DARDUINO_ARCH_ESP32")


def export(project, folder, **options):
    model, plan = tiny_net(), Plan((LayerPlan("b3_conv", (0, 3)), LayerPlan("logits", (0, 1))))
    training = TrainingSettings(iterations=3, num_classes=WAYS, max_samples=WAYS * SHOTS)
    options = {"calibration": images(model, 8), "training": training, "features": "flash", "project": project} | options
    return export_tflm(model, plan, out=folder / "net", head="prototypes", **options)


@pytest.fixture(scope="module", params=["platformio", "esp-idf", "zephyr"])
def program(request, tflm, installed, tmp_path_factory):
    """(bundle, its program on a board with a flash partition): PlatformIO's is the sketch on an ESP32."""
    folder = tmp_path_factory.mktemp("project")
    bundle = export(request.param, folder, board="esp32s3" if request.param != "zephyr" else "nano33ble")
    if request.param == "platformio":
        return bundle, build_sketch(bundle, tflm, installed, folder, *ESP32, includes=[STANDINS / "esp_idf"])
    project = unpacked(bundle, folder)[1]
    sources = project / ("main" if request.param == "esp-idf" else "src")
    programs = [with_arena_of_64_bits(sources, folder) / "main.cpp", sources / "models.cpp", sources / "tables.cpp"]
    standin = STANDINS / request.param.replace("-", "_")
    flag = "-DESP_PLATFORM" if request.param == "esp-idf" else "-D__ZEPHYR__"
    return bundle, build(
        [*programs, *standin.glob("main.cpp")], [folder, standin, sources], tflm, installed, folder / "run", flag
    )


def test_program_learns_as_the_host_and_keeps_it_in_its_partition(program, tmp_path):
    bundle, file = program
    flash = tmp_path / "flash"
    flash.write_bytes(bytes(FLASH_FILE_BYTES))
    x, y = labelled_images(tiny_net(), per_class=SHOTS, classes=WAYS)
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    losses = host.train()
    labels = host.predict(x).argmax(axis=1)
    with running(file, FLASH=str(flash)) as port, Device(port) as board:
        board.teach(x, y)
        assert board.train() == pytest.approx(losses, abs=1e-6)
        board.save()
    with running(file, FLASH=str(flash)) as port, Device(port) as board:
        assert board.status()["runs"] == "learned" and board.status()["saves"] == 1
        np.testing.assert_array_equal(board.predict(x), labels)
        board.factory()
    with running(file, FLASH=str(flash)) as port, Device(port) as board:
        assert board.status()["runs"] == "exported" and board.status()["saves"] == 0


def test_program_says_that_its_partition_is_missing(program):
    with running(program[1]) as port, pathlib.Path(port).open("rb", buffering=0) as terminal:
        assert terminal.read(6) == b"ERROR "


@pytest.fixture(scope="module")
def cmake_project(tmp_path_factory):
    """(bundle, its project for CMake)."""
    folder = tmp_path_factory.mktemp("cmake_project")
    bundle = export("cmake", folder)
    project = unpacked(bundle, folder)[1]
    with_arena_of_64_bits(project, project)
    return bundle, project


def cmake(project, build, tflm, library, *options):
    named = [f"-DTFLM_INCLUDE_DIRS={';'.join(tflm.includes)}", f"-DTFLM_LIBRARY={library}"]
    for command in (["cmake", "-S", project, "-B", build, *named, *options], ["cmake", "--build", build, "-j", "2"]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_cmake_project_learns_with_the_installed_package(cmake_project, tflm, installed, tmp_path):
    bundle, project = cmake_project
    flags = [f"-DCMAKE_PREFIX_PATH={installed}", f"-DCMAKE_CXX_FLAGS={' '.join(FLAGS)} -DXCORE"]
    cmake(project, tmp_path / "build", tflm, tflm.library[0], *flags)
    x, y = labelled_images(tiny_net(), per_class=SHOTS, classes=WAYS)
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    losses = host.train()
    with running(tmp_path / "build" / "bundle_net") as port, Device(port) as board:
        board.teach(x, y)
        assert board.train() == pytest.approx(losses, abs=1e-6)


@needs_arm
def test_cmake_project_builds_for_a_cortex_m4_from_source(cmake_project, tflm, tmp_path):
    """No TensorFlow Lite Micro for it is at hand, so its symbols stay open."""
    (tmp_path / "nothing.c").touch()
    subprocess.run(["arm-none-eabi-gcc", "-c", tmp_path / "nothing.c", "-o", tmp_path / "nothing.o"], check=True)
    subprocess.run(["arm-none-eabi-ar", "rcs", tmp_path / "libnothing.a", tmp_path / "nothing.o"], check=True)
    cpu = "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard --specs=nosys.specs -Os"
    toolchain = [
        "-DCMAKE_SYSTEM_NAME=Generic",
        "-DCMAKE_CXX_COMPILER=arm-none-eabi-g++",
        "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY",
        f"-DCMAKE_CXX_FLAGS={cpu} -Dtflite={NAMESPACE} -DXCORE",
        "-DCMAKE_EXE_LINKER_FLAGS=-Wl,--unresolved-symbols=ignore-all",
    ]
    cmake(cmake_project[1], tmp_path / "build", tflm, tmp_path / "libnothing.a", *toolchain)
    assert (tmp_path / "build" / "bundle_net").is_file()


def test_packages_of_all_build_systems_have_one_version():
    root = ROOT / "tflm_runtime"
    properties = dict(line.split("=", 1) for line in (root / "library.properties").read_text().splitlines())
    component = dict(
        line.split(": ", 1)
        for line in (root / "idf_component.yml").read_text().splitlines()
        if line[0].isalpha() and ": " in line
    )
    assert json.loads((root / "library.json").read_text())["version"] == properties["version"]
    assert component["version"].strip('"') == properties["version"]


def test_partitions_do_not_overlap_and_fit_4_mb():
    lines = [line for line in (ROOT / "tflm_runtime" / "partitions.csv").read_text().splitlines() if not line.startswith("#")]
    parts = [(int(offset, 16), int(size, 16)) for *_, offset, size in (line.split(",") for line in lines)]
    ends = [offset + size for offset, size in parts]
    assert all(end <= start for end, (start, _) in zip(ends, parts[1:], strict=False)) and ends[-1] == 1 << 22
    assert all(offset % 65536 == 0 for offset, _ in parts[2:4])  # of programs
