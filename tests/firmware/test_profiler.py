"""Instructions and cycles by function, kind of work and layer: exact where known, and in all what the board's own counter says."""

import functools
import json
import os
import pathlib
import struct
import subprocess

import pytest

from keras_tinytrain.choose.forward_work import Work
from keras_tinytrain.cli import emulated_task, main
from keras_tinytrain.export import board
from keras_tinytrain.run import cortex_m4, profiler
from keras_tinytrain.run.emulation import emulate_task
from keras_tinytrain.run.emulator import COMMAND, EmulatedBoard
from keras_tinytrain.run.firmware import build_firmware, build_program
from keras_tinytrain.run.profiler import Profiler
from keras_tinytrain.run.quantise import quantise_samples
from keras_tinytrain.run.task_profile import num_rows
from keras_tinytrain.tflm_runtime import firmware_dir, sources

SOURCE = pathlib.Path(__file__).with_name("board_check.cpp")
READING = 80  # the board's counter goes in steps of 40, and to read it takes up to as many instructions
NO_KERNELS = ("optimizer", "weights", "samples")  # what samples and the update run


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    flags = ["-DCHECK=CountInstructions", "-std=gnu++14"]
    return build_program([SOURCE], folder, board=board("nano33ble"), flags=flags)


def test_a_loop_is_counted_exactly_and_as_by_the_board(loop, tmp_path):
    loop_profiler = Profiler(loop, tmp_path)
    done = subprocess.run([*COMMAND, *loop_profiler.options, "-kernel", loop], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    functions = instructions(loop_profiler)
    assert sum(functions.values()) == pytest.approx(struct.unpack("<Q", done.stdout)[0], abs=READING)
    wraps = functions.pop("CountWrap")  # the interrupt, once or twice in 60 million instructions
    assert wraps in (5, 10)
    (counted,) = functions.values()
    assert 60_000_000 <= counted <= 60_000_002  # the number of rounds may be loaded within


def test_a_loop_takes_the_cycles_of_the_manual(loop, tmp_path):
    """Three instructions a round: subtraction, comparison or test, and a branch that is taken: 1 + 1 + 1 + 1 to refill."""
    loop_profiler = Profiler(loop, tmp_path, flash=cortex_m4.NO_WAIT)
    subprocess.run([*COMMAND, *loop_profiler.options, "-kernel", loop], check=True, capture_output=True, timeout=60)
    work = max(loop_profiler.functions().values(), key=lambda work: work.cycles)
    assert work.cycles == pytest.approx(work.instructions * 4 / 3, abs=10)


def test_flash_that_waits_takes_longer(loop, tmp_path):
    cycles = []
    for flash in (cortex_m4.NO_WAIT, cortex_m4.NRF52840, cortex_m4.Flash(2, 16, 0)):
        loop_profiler = Profiler(loop, tmp_path, flash=flash)
        subprocess.run([*COMMAND, *loop_profiler.options, "-kernel", loop], check=True, capture_output=True, timeout=60)
        cycles.append(max(work.cycles for work in loop_profiler.functions().values()))
    assert cycles[0] <= cycles[1] < 1.001 * cycles[0]  # the cache holds a loop
    assert cycles[2] > 1.4 * cycles[0]  # 20 million rounds fetch a line each


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The demo's bundle, task and queries, and the folder of its firmware."""
    folder = tmp_path_factory.mktemp("digits")
    bundle, task, queries = emulated_task._demo_task(folder)
    build_firmware(bundle, folder)
    return bundle, task, queries, folder


def instructions(profiled):
    return {name: work.instructions for name, work in profiled.functions().items()}


def kernel_names(folder):
    objects = [folder / f"{source.stem}.o" for source in sources() if source.stem not in NO_KERNELS]
    symbols = subprocess.run(["arm-none-eabi-nm", "--defined-only", *objects], check=True, capture_output=True).stdout
    lines = subprocess.run(["arm-none-eabi-c++filt", "--no-params"], input=symbols, check=True, capture_output=True).stdout
    return {row[2] for row in (line.split(maxsplit=2) for line in lines.decode().splitlines()) if len(row) == 3}


def test_a_task_is_counted_as_by_the_board(digits, tmp_path):
    bundle, (x, y), _, folder = digits
    program = folder / "firmware.elf"
    task_profiler = Profiler(program, tmp_path, num_layers=num_rows(bundle))
    with EmulatedBoard(bundle, program, profiler=task_profiler) as running:
        running.start(1)
        assert not task_profiler.functions()
        for image, label in zip(quantise_samples(bundle.input, x), y, strict=True):
            running.ask(b"s" + bytes([label]) + image.tobytes())
        running.ask(b"l")
        report = dict(line.rsplit(" ", 1) for line in running.ask(b"r").decode().splitlines())
    functions = instructions(task_profiler)
    parts = {name.partition(".")[2]: int(value, 0) for name, value in report.items() if name.startswith("instructions.")}
    times_on = len(y) + 2  # for each sample, when learning begins, and after the loss is told
    assert sum(functions.values()) == pytest.approx(sum(parts.values()), abs=times_on * READING)
    kernels = sum(functions.get(name, 0) for name in kernel_names(folder))
    assert 0.9 < kernels / (parts["backward"] + parts["solving"]) < 1
    kinds = {kind: sum(steps.values(), Work()) for kind, steps in task_profiler.kinds().items()}
    assert sum(work.instructions for work in kinds.values()) == sum(functions.values())
    assert sum(work.cycles for work in kinds.values()) == sum(work.cycles for work in task_profiler.functions().values())
    assert kinds["backward"].instructions == pytest.approx(parts["backward"], rel=0.05)  # which has the loss, too
    assert kinds["update"].instructions == pytest.approx(parts["update"], rel=0.1)
    assert all(work.cycles > work.instructions > 0 for work in (kinds["backward"], kinds["update"], kinds["other"]))


def test_the_command_prints_the_functions(digits, capsys, monkeypatch):
    monkeypatch.setattr(emulated_task, "_demo_task", lambda folder: digits[:3])
    monkeypatch.setattr(emulated_task, "emulate_task", functools.partial(emulate_task, program=digits[3] / "firmware.elf"))
    command = ["emulate", "demo", "--iterations", "1"]
    figures = []
    for options in ([], ["--profile"]):
        assert main([*command, "--json", *options]) == 0
        figures.append(json.loads(capsys.readouterr().out))
    functions, kinds, layers = (figures[1].pop(name) for name in ("functions", "kinds", "layers"))
    cycles = [figure.pop("cycles") for figure in figures]
    assert figures[1] == figures[0]  # to count changes nothing
    for part in ("frozen_forward", "trainable_forward"):  # estimates, with and without a profile
        assert kinds[part]["instructions"] == figures[0]["instructions"][part]
        assert cycles[0][part] == pytest.approx(cycles[1][part], rel=1e-3)
    assert cycles[0]["total"] == pytest.approx(cycles[1]["total"], rel=0.1)
    assert set(layers["backward"]) == {"b6.pw1 to b6.pw2", "b7.pw1.relu to b7.pw2", "pool"}
    assert next(iter(layers["frozen_forward"])) == "stem.relu" and list(layers["update"]) == ["b6.pw1"]
    counts = list(functions.values())
    assert counts == sorted(counts, reverse=True) and counts[-1] > 0
    assert main([*command, "--profile"]) == 0
    table = capsys.readouterr().out
    assert f"{counts[0]:,}" in table and f"{100 * counts[0] / sum(counts):.1f}" in table and f"{sum(counts):,}" in table


def test_what_is_missing_is_said(loop, tmp_path, monkeypatch):
    monkeypatch.setattr(profiler, "_PLUGIN", (*profiler._PLUGIN, "-Dqemu_plugin_version=nothing_that_qemu_looks_for"))
    with pytest.raises(RuntimeError, match="does not load the plugin.*qemu_plugin_version.*built with plugins.*version 1"):
        Profiler(loop, tmp_path)
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(RuntimeError, match="'no-such-compiler' is not there. Install with: apt-get install .* gcc"):
        Profiler(loop, tmp_path)


def test_counts_that_cannot_be_kept_are_refused(loop, tmp_path):
    counts = tmp_path / "counts"
    options = Profiler(loop, tmp_path).options
    os.truncate(counts, 16)
    done = subprocess.run([*COMMAND, *options, "-kernel", loop], capture_output=True, timeout=60)
    assert done.returncode == 1 and f"profiler: counts={counts}" in done.stderr.decode()


def test_the_plugin_compiles_without_warnings(tmp_path):
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
    compiler = os.environ.get("CC", "cc"), *profiler._PLUGIN, *warnings
    subprocess.run([*compiler, firmware_dir() / "profiler.c", "-o", tmp_path / "plugin"], check=True)
