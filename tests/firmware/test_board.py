"""The emulated board by itself: it stops what a Nano 33 BLE could not do, and counts what it says it counts."""

import dataclasses
import pathlib
import struct
import subprocess
import types

import pytest

from keras_tinytrain.export import board
from keras_tinytrain.run.emulator import COMMAND
from keras_tinytrain.run.firmware import build_firmware, build_program, check_tools

SOURCE = pathlib.Path(__file__).with_name("board_check.cpp")
NANO = board("nano33ble")


def run(check, folder, target=NANO):
    """(exit code, standard output, what was printed) of one check."""
    program = build_program([SOURCE], folder, board=target, flags=[f"-DCHECK={check}", "-std=gnu++14"])
    done = subprocess.run([*COMMAND, "-kernel", program], capture_output=True, timeout=60)
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.parametrize(
    "check, address",
    [
        ("WriteFlash", None),
        ("WriteBehindRam", 0x20000000 + NANO.sram_bytes),
        ("ReadBehindFlash", NANO.flash_bytes),
        ("WritePeripheral", 0x40004000),
    ],
)
def test_what_lies_outside_is_trapped(check, address, tmp_path):
    code, _, printed = run(check, tmp_path)
    assert code == 1 and "memory protection fault" in printed
    trapped = int(printed.split("address ")[1], 16)
    assert trapped == address or (address is None and 0 < trapped < NANO.flash_bytes)


@pytest.mark.parametrize("check", ["RunRam", "OverflowStack"])
def test_data_is_not_run_and_the_stack_does_not_overflow(check, tmp_path):
    code, _, printed = run(check, tmp_path)
    assert code == 1 and "memory protection fault" in printed


def test_all_memory_can_be_used_and_the_stack_is_measured(tmp_path):
    code, output, printed = run("StayWithin", tmp_path)
    assert code == 0, printed
    before, after = struct.unpack("<2I", output)
    assert 0 < before < 500
    assert 20 * 64 < after < 20 * 64 + 1500  # twenty frames of 64 bytes and what goes with them


def test_zeros_of_a_large_board_are_not_laid_over_its_program(tmp_path):
    """QEMU loads a segment to where it is copied from; megabytes of zeros there would reach round to address 0."""
    large = dataclasses.replace(NANO, sram_bytes=16 << 20, flash_bytes=4 << 20)
    code, output, printed = run("FindZeros", tmp_path, large)
    assert code == 0, printed
    assert struct.unpack("<2I", output) == (7, 0)


def test_the_heap_grants_nothing_and_counts(tmp_path):
    code, output, printed = run("AskHeap", tmp_path)
    assert code == 0, printed
    refused, requested = struct.unpack("<2I", output)
    assert refused == 1 and requested >= 100


def test_instructions_are_counted_across_a_wrap(tmp_path):
    code, output, printed = run("CountInstructions", tmp_path)
    assert code == 0, printed
    assert struct.unpack("<Q", output)[0] == pytest.approx(60e6, abs=500)


def test_a_program_that_is_too_large_is_refused_with_its_size(tmp_path):
    large = tmp_path / "large.cpp"
    large.write_text("char data[300000]; int main() { return data[data[0]]; }\n")
    with pytest.raises(ValueError, match=r"does not fit board 'nano33ble': it lacks 4\d,\d{3} B of SRAM"):
        build_program([large], tmp_path, board=NANO, flags=[])


def test_a_program_that_does_not_compile_is_shown(tmp_path):
    broken = tmp_path / "broken.cpp"
    broken.write_text("int main() { return nonsense; }\n")
    with pytest.raises(RuntimeError, match="'nonsense' was not declared"):
        build_program([broken], tmp_path, board=NANO, flags=[])


def test_missing_tools_are_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeError, match="arm-none-eabi-g.. and qemu-system-arm. Install with: apt-get install .*gcc-arm"):
        check_tools()


def test_another_processor_is_refused(tmp_path):
    other = types.SimpleNamespace(manifest={"board": vars(board("rp2040"))})
    with pytest.raises(ValueError, match="emulated processor is a Cortex-M4F; the bundle was exported for 'rp2040'"):
        build_firmware(other, tmp_path)
