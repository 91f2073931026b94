"""Cycles of instructions as in Arm's Technical Reference Manual of the Cortex-M4: table 3-1, table 7-1 and "Load/store timings"."""

import subprocess

import pytest

from keras_tinytrain.run import cortex_m4
from keras_tinytrain.run.cortex_m4 import CALL, INDIRECT, LOADS

CYCLES = 0x1F
ASSEMBLER = "arm-none-eabi-as"
TIMES = {  # straight code: cycles where no branch is taken
    "mov r0, r1": 1,
    "mla r0, r1, r2, r3": 1,
    "smlad r0, r1, r2, r3": 1,
    "smull r0, r1, r2, r3": 1,
    "sdiv r0, r1, r2": cortex_m4.DIVISION_CYCLES,
    "ldr r0, [r1]": 2,
    "ldr r0, [r1]; ldr r1, [r2]": 3,
    "ldr r0, [r1, r2]; str r0, [r3, #20]": 3,
    "ldr r0, [r1, r2]; str r1, [r3, r2]": 3,
    "ldr r0, [r1, r5]; ldr r1, [r2]; ldr r2, [r3, #4]": 4,
    "ldr r0, [r1]; ldr r2, [r0]": 4,  # the second needs the first's result as its address
    "ldr r0, [r1], #4; ldr r2, [r3]": 4,  # a load that changes its base is not followed in the pipeline
    "ldrsb r0, [r1]; ldrh r2, [r3]": 3,
    "str r0, [r1, #4]": 1,
    "str r0, [r1, r2]": 2,
    "add r1, r2, r3; ldr r0, [r1]": 4,  # an address just computed
    "add r1, r2, r3; ldr r0, [r4]": 3,
    "ldrd r0, r1, [r2]": 3,
    "ldm r0, {r1, r2, r3}": 4,
    "push {r4-r7, lr}": 6,
    "vadd.f32 s0, s1, s2": 1,
    "vmul.f32 s0, s1, s2; vadd.f32 s3, s3, s4": 2,
    "vmul.f32 s0, s1, s2; vadd.f32 s3, s3, s0": 3,  # the result is read at once
    "vdiv.f32 s0, s1, s2": 14,
    "vsqrt.f32 s0, s1": 14,
    "vmla.f32 s0, s1, s2": 3,
    "vldr s0, [r0]": 2,
    "vldr s0, [r0]; vldr s1, [r0, #4]": 3,
    "vldmia r0!, {s0-s7}": 9,
    "vpush {d8-d9}": 5,
    "vmov s0, r0": 1,
    "vmov s0, s1, r0, r1": 2,
    "it eq; ldreq r0, [r1]": 3,
    "cmp r0, #0; bne .": 2,
}
FLAGS = {
    "bl .": CALL,
    "blx r3": CALL | INDIRECT,
    "bx lr": INDIRECT,
    "pop {r4, pc}": INDIRECT,
    "ldr pc, [r0]": INDIRECT | LOADS,
    "ldr r0, [r1]": LOADS,
    "vldr s0, [r1]": LOADS,
    "b .": 0,
    "str r0, [r1]": 0,
}


@pytest.fixture(scope="module")
def disassembled(tmp_path_factory):
    """{source: costs of its instructions}, all assembled at once."""
    folder = tmp_path_factory.mktemp("assembled")
    sources = [*TIMES, *FLAGS]
    lines = [f"udf #1\nit eq\nmoveq r8, r8\n{source.replace('; ', chr(10))}" for source in sources]
    (folder / "code.s").write_text(".syntax unified\n.thumb\n" + "\n".join(lines) + "\nudf #1\n")
    options = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16"]
    subprocess.run([ASSEMBLER, *options, folder / "code.s", "-o", folder / "code.o"], check=True)
    command = ["arm-none-eabi-objdump", "-d", "--no-show-raw-insn", folder / "code.o"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    instructions = list(cortex_m4.parse(text))
    found = cortex_m4.costs(instructions)
    groups, group = [], []
    for instruction in instructions:
        if instruction.name == "udf":
            groups, group = [*groups, group], []
        else:
            group.append(found[instruction.address])
    return dict(zip(sources, (costs[2:] for costs in groups[1:]), strict=True))


@pytest.mark.parametrize("source", TIMES)
def test_cycles_are_the_manuals(source, disassembled):
    assert sum(cost & CYCLES for cost in disassembled[source]) == TIMES[source]


@pytest.mark.parametrize("source", FLAGS)
def test_branches_and_loads_are_marked(source, disassembled):
    assert disassembled[source][-1] & ~CYCLES == FLAGS[source]


def test_constants_among_the_code_are_left_out():
    text = "00000000 <f>:\n   0:\tbx\tlr\n   2:\tnop\n   4:\t00001234 \t.word\t0x00001234\n"
    assert [instruction.name for instruction in cortex_m4.parse(text)] == ["bx", "nop"]
