"""The firmware over a TensorFlow Lite Micro that a user has built: however that was, it links, runs and learns as on the host."""

import os
import subprocess

import pytest

from keras_tinytrain.export.tflite.arena import board_arena
from keras_tinytrain.run.arena_on_board import measure_arenas
from keras_tinytrain.run.code_on_board import measure_code
from keras_tinytrain.run.emulation import emulate_task
from keras_tinytrain.run.firmware import build_firmware
from keras_tinytrain.run.users_tflm import users_tflm
from tests.tflm_stand_in import stand_in
from tests.tflm_stand_in.task import task, wide_depthwise_bundle  # noqa: F401

BUILDS = {  # float ABI, TfLiteTensor of 32 B or of 64, and as a compiler for another system would have it
    "cortex-m4+fp": {"float_abi": "hard", "static_memory": True},
    "arduino": {"float_abi": "softfp", "static_memory": False},
    "cortex-m4": {"float_abi": "soft", "static_memory": True},
    "int_enums": {"float_abi": "softfp", "static_memory": True, "flags": ("-fno-short-enums",)},
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return stand_in.build(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def without_tflm(task):
    """Instructions where the host runs the forward passes: those of the runtime's own parts are the same."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("TFLM_LIBRARY", raising=False)
        monkeypatch.delenv("TFLM_INCLUDE_DIRS", raising=False)
        return emulate_task(*task[:3]).instructions


@pytest.mark.parametrize("build", BUILDS)
def test_every_build_of_tflm_learns_as_the_host(build, task, without_tflm, tmp_path, monkeypatch):
    stand_in.name(monkeypatch, stand_in.build(tmp_path, **BUILDS[build]))
    bundle, x, y, learned = task
    emulated = emulate_task(bundle, x, y, queries=x[:2])
    assert (emulated.losses, emulated.delta, emulated.logits.tolist()) == learned
    assert not emulated.forward_is_estimated
    parts = emulated.instructions
    for part in () if BUILDS[build]["float_abi"] == "hard" else ("update", "backward"):  # hard floats: cheaper calls
        assert parts[part] == pytest.approx(without_tflm[part], rel=0.02), part
    assert parts["samples"] > without_tflm["samples"]  # to open the frozen part counts
    assert emulated.calls["trainable_forward"] > emulated.calls["frozen_forward"] == len(x)


def test_resolver_has_a_place_for_each_operator(task, library, tmp_path, monkeypatch):
    stand_in.name(monkeypatch, library)
    program = build_firmware(task[0], tmp_path)
    symbols = subprocess.run(["arm-none-eabi-nm", "-CS", program], check=True, capture_output=True, text=True).stdout
    (line,) = (line for line in symbols.splitlines() if line.endswith("Operators()::resolver"))
    registration, head = 36, 8  # TFLMRegistration, and the virtual table's address and the count
    assert int(line.split()[1], 16) == len(task[0].manifest["operators"]) * registration + head


def test_arena_far_too_small_is_an_error(task, library, monkeypatch, tmp_path):
    stand_in.name(monkeypatch, library)
    bundle, x, y, _ = task
    for arena in (64, 512):
        program = build_firmware(bundle, tmp_path, arena_bytes=arena)
        with pytest.raises(RuntimeError, match=f"arena of {arena} B"):
            emulate_task(bundle, x, y, program=program)


def test_arenas_grow_by_scratch_and_by_large_tensors(task, tmp_path, monkeypatch):
    """Of the frozen part: scratch where the depthwise convolution is alive; 32 B more for its input and its output, and 12 B more for
    each of two nodes, in whole 16 B."""
    arenas = []
    for build in ({}, {"static_memory": False}, {"scratch": True}):
        stand_in.name(monkeypatch, stand_in.build(tmp_path, **build))
        arenas.append(measure_arenas(task[0])["frozen_arena"])
    small, large, with_scratch = arenas
    assert large == small + 2 * 32 + 16
    assert with_scratch == small + 4 * 4 * 6  # scratch comes first where the image was; the output moves to after its input


@pytest.mark.parametrize(
    ("kernels", "build", "forgotten"),
    [
        ("cmsis-nn", {"scratch": True}, "reference"),  # scratch
        ("arduino", {"scratch": True, "static_memory": False}, "cmsis-nn"),  # tensors of 64 B and larger nodes
    ],
    ids=["scratch", "large_tensors"],
)
def test_promised_arenas_hold_what_the_library_takes(kernels, build, forgotten, tmp_path, monkeypatch):
    """And a promise that forgets the one or the other is too small for one of the two models."""
    bundle = wide_depthwise_bundle(tmp_path / "net", kernels)
    stand_in.name(monkeypatch, stand_in.build(tmp_path, **build))
    needed, promised = measure_arenas(bundle), bundle.manifest["arenas"]
    without = {
        "frozen_arena": board_arena(bundle.frozen, forgotten),
        "trainable_arena": board_arena(bundle.trainable, forgotten),
    }
    assert all(needed[part] <= promised[part] for part in promised)
    assert any(needed[part] > without[part] for part in promised)


def test_code_is_measured_operator_by_operator(library, monkeypatch):
    stand_in.name(monkeypatch, library)
    code = measure_code(["CONV_2D", "RESHAPE", "ADD"])
    assert code["CONV_2D"] > 2_000 and code["RESHAPE"] >= 0
    assert code["ADD"] is None  # the stand-in does not have it


def test_folder_that_is_missing_is_named(task, library, tmp_path, monkeypatch):
    stand_in.name(monkeypatch, library)
    monkeypatch.setenv("TFLM_INCLUDE_DIRS", os.pathsep.join(stand_in.INCLUDES[:2]))
    with pytest.raises(ValueError, match="has no fixedpoint/fixedpoint.h: name the folders of .* gemmlowp"):
        build_firmware(task[0], tmp_path)


def test_library_of_another_processor_is_refused(task, tmp_path, monkeypatch):
    stand_in.name(monkeypatch, stand_in.build(tmp_path, float_abi=None))
    with pytest.raises(ValueError, match="was built for no Arm processor; the emulated board is a Cortex-M4F"):
        build_firmware(task[0], tmp_path)
    stand_in.name(monkeypatch, stand_in.build(tmp_path, float_abi="soft", flags=("-mcpu=cortex-m33",)))
    with pytest.raises(ValueError, match="was built for v8-M.mainline"):
        build_firmware(task[0], tmp_path)


def test_library_without_all_of_its_sources_is_named(task, library, tmp_path, monkeypatch):
    subprocess.run(["cp", library, tmp_path / "part.a"], check=True)
    subprocess.run(["arm-none-eabi-ar", "d", tmp_path / "part.a", "operators.o"], check=True)
    stand_in.name(monkeypatch, tmp_path / "part.a")
    with pytest.raises(ValueError, match=r"part.a, lacks tflite::.*: build all of it"):
        build_firmware(task[0], tmp_path)


def test_paths_that_do_not_exist_are_named(library, monkeypatch):
    stand_in.name(monkeypatch, library.with_name("nothing.a"))
    with pytest.raises(ValueError, match="TFLM_LIBRARY names .*nothing.a', which does not exist"):
        users_tflm()
    stand_in.name(monkeypatch, library)
    monkeypatch.setenv("TFLM_INCLUDE_DIRS", "/nowhere")
    with pytest.raises(ValueError, match="TFLM_INCLUDE_DIRS names '/nowhere'"):
        users_tflm()


def test_tflm_is_named_whole(library, monkeypatch):
    monkeypatch.setenv("TFLM_LIBRARY", str(library))
    with pytest.raises(ValueError, match="TFLM_INCLUDE_DIRS and TFLM_LIBRARY go together"):
        users_tflm()
