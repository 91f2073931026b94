"""Cycles of a Cortex-M4's instructions, from their disassembly.

Source: Arm, Cortex-M4 Technical Reference Manual (DDI 0439), tables 3-1 and 7-1, "Load/store timings" (as in the Cortex-M3's manual
and in TI's SWCU185) and the note on results that the following float instruction reads. What depends on the run (branches that are
taken, waits for flash) is added by tflm_runtime/firmware/profiler.c.
"""

import collections.abc
import dataclasses
import re
import typing

DIVISION_CYCLES = 7  # SDIV, UDIV: 2 to 12, by the number of leading ones and zeros of the operands
LOADS, INDIRECT, CALL = 0x20, 0x40, 0x80  # of a cost, as profiler.c has them; cycles in the lowest five bits
_SOURCE = re.compile(r"^\s*([0-9a-f]+):\t([a-z][a-z0-9.]*)\s*([^;@<]*)")
_CONDITIONS = ["eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le", "hs", "lo"]
_BRANCHES, _TIMED = ("b", "bl", "bx", "blx"), ("ldr", "str", "ldm", "stm", "pop", "pus", "sdi", "udi")
_MULTIPLE = (
    "ldm",
    "ldmia",
    "ldmdb",
    "stm",
    "stmia",
    "stmdb",
    "push",
    "pop",
    "vldm",
    "vldmia",
    "vstm",
    "vstmia",
    "vpush",
    "vpop",
)
_FLOATS = {"vdiv": 14, "vsqrt": 14, "vmla": 3, "vmls": 3, "vnmla": 3, "vnmls": 3, "vfma": 3, "vfms": 3, "vfnma": 3, "vfnms": 3}
_ARITHMETIC = ("vadd", "vsub", "vmul", "vnmul", "vcvt", "vdiv", "vsqrt", "vmla", "vmls", "vfma", "vfms")
_SINGLE = re.compile(r"^(v?ldr|v?str)(b|h|sb|sh|t|ex)?$")
_REGISTER = re.compile(r"\b(?:r\d+|ip|lr|sp|fp|sl|sb|pc|[sd]\d+)\b")


@dataclasses.dataclass(frozen=True)
class Flash:
    """How long code and constants in flash keep a Cortex-M4 waiting.

    Args:
        wait_cycles: of a read that no cache holds.
        line_bytes: of such a read.
        cache_lines: of code, 0: no cache.
        data_cache_lines: of constants, 0: each read waits.
    """

    wait_cycles: int
    line_bytes: int
    cache_lines: int
    data_cache_lines: int = 0


# nRF52840 Product Specification, NVMC: two wait states at 64 MHz, an instruction cache of 2 KB; constants are not cached.
# STM32L4R5, RM0432: five at 120 MHz (range 1 boost); its accelerator keeps 1 KB of code and 256 B of constants.
NRF52840, STM32L4R5 = Flash(2, 16, 128), Flash(5, 32, 32, 8)
NO_WAIT = Flash(0, 32, 1)


class Instruction(typing.NamedTuple):
    """One line of a disassembly."""

    address: int
    name: str  # without condition, width and type
    operands: str


def parse(text: str) -> collections.abc.Iterator[Instruction]:
    """The instructions of `objdump -d --no-show-raw-insn`. Constants among the code are left out."""
    for line in text.splitlines():
        found = _SOURCE.match(line)
        if found:
            yield Instruction(int(found[1], 16), _name(found[2]), found[3].strip())


def costs(instructions: collections.abc.Iterable[Instruction]) -> dict[int, int]:
    """{address: cycles when no branch is taken and flash does not wait, with LOADS, INDIRECT and CALL}."""
    found, before = {}, Instruction(-1, "", "")
    for instruction in instructions:
        found[instruction.address] = _cycles(instruction, before) | _kind(instruction)
        before = instruction
    return found


def _name(mnemonic: str) -> str:
    """Without type, width and condition, where the timing depends on it: "ldrne.w" is "ldr"."""
    name = mnemonic.split(".")[0]
    bare = name[:-2]
    is_conditional = name[-2:] in _CONDITIONS and (bare in _BRANCHES or bare[:3] in _TIMED or bare.startswith("v"))
    return bare if is_conditional else name


def _cycles(now: Instruction, before: Instruction) -> int:
    if now.name in ("sdiv", "udiv"):
        return DIVISION_CYCLES
    if now.name in _MULTIPLE:
        return min(1 + _num_listed(now.operands), 31)
    if now.name in ("ldrd", "strd"):
        return 3
    if _SINGLE.match(now.name):
        return _single_cycles(now, before)
    if now.name in ("tbb", "tbh"):
        return 4  # of six, the branch itself and its refill included
    if now.name.startswith("v"):
        return _float_cycles(now) + _reads_result(now, before)
    return 1


def _single_cycles(now: Instruction, before: Instruction) -> int:
    """A load takes two cycles, one after a load whose result it does not need as an address; a store to an offset takes one."""
    base = _REGISTER.findall(now.operands[now.operands.find("[") :])
    wide = now.operands.startswith("d")  # two words
    written = _REGISTER.findall(before.operands)[:1]
    waits = bool(written) and written[0] in base and _writes_early(before)
    if "str" in now.name and len(base) < 2:
        return 1 + wide + waits
    follows = _is_load(before) and not _updates(before) and written[0] not in base
    return (1 if follows else 2) + wide + waits


def _writes_early(before: Instruction) -> bool:
    """Whether its result is one of arithmetic: an address that needs it comes a cycle later."""
    return (
        not _SINGLE.match(before.name)
        and before.name[0] not in "vbc"
        and before.name not in ("push", "pop", "it", "tst", "nop")
    )


def _is_load(instruction: Instruction) -> bool:
    return bool(_SINGLE.match(instruction.name)) and "ldr" in instruction.name


def _updates(instruction: Instruction) -> bool:
    return "!" in instruction.operands or "]," in instruction.operands


def _float_cycles(now: Instruction) -> int:
    moves_two = now.name == "vmov" and len(_REGISTER.findall(now.operands)) > 2
    return 2 if moves_two else _FLOATS.get(now.name, 1)


def _reads_result(now: Instruction, before: Instruction) -> int:
    """One cycle where it reads the result of the float arithmetic before it, except as the sum that it adds to."""
    if not before.name.startswith(_ARITHMETIC):
        return 0
    result, operands = _REGISTER.findall(before.operands)[0], _REGISTER.findall(now.operands)
    return int(result in (operands if now.name.startswith(("vcmp", "vstr")) else operands[1:]))


def _num_listed(operands: str) -> int:
    """Registers in {r0, r4-r7}."""
    listed = operands[operands.find("{") + 1 : operands.find("}")]
    count = 0
    for part in listed.split(","):
        numbers = [int(number) for number in re.findall(r"[rsd](\d+)", part)]
        count += numbers[1] - numbers[0] + 1 if len(numbers) == 2 else 1
    return count * (2 if "d" in listed else 1)


def _kind(now: Instruction) -> int:
    loads = LOADS if now.name.startswith(("ldr", "vldr", "ldm", "vldm")) else 0
    to_pc = "pc" in _REGISTER.findall(now.operands.partition("[")[0]) and now.name in (
        "pop",
        "ldr",
        "ldm",
        "ldmia",
        "mov",
        "add",
    )
    indirect = INDIRECT if now.name in ("bx", "blx", "tbb", "tbh") or to_pc else 0
    return loads | indirect | (CALL if now.name in ("bl", "blx") else 0)
