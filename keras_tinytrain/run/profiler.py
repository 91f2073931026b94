"""Instructions and cycles of a firmware on the emulated board, counted by a plugin of QEMU: by function, by kind of work, by layer."""

import collections
import collections.abc
import os
import pathlib
import shutil
import subprocess

import numpy as np

from keras_tinytrain.choose.forward_work import Work
from keras_tinytrain.run import cortex_m4
from keras_tinytrain.run.firmware import EMULATOR
from keras_tinytrain.tflm_runtime import firmware_dir

_NM, _DEMANGLE, _DISASSEMBLE = "arm-none-eabi-nm", "arm-none-eabi-c++filt", "arm-none-eabi-objdump"
_PLUGIN = ("-shared", "-fPIC", "-O2", "-std=gnu11")
# Kinds of work in the numbering of profiler.c, and the functions that begin each; what they call is of their kind, unless it begins
# another. "other": samples, loss, prototypes, and whatever no line names.
KINDS = {
    "other": (),
    "frozen_forward": ("::RunFrozen",),
    "trainable_forward": ("::RunTrainable",),
    "opening": ("MicroInterpreter::AllocateTensors",),  # of an interpreter: its arena is set up
    "selection": ("tinytrain::BackwardFisher",),
    "backward": ("tinytrain::Backward",),
    "update": ("tinytrain::Trainer::UpdateWeights", "tinytrain::FinishWeightGradients"),
}
_NUM_KINDS, _NUM_STEPS, _STEP = 8, 256, 0x80  # as in profiler.c
_ENDS_A_STEP = ("MicroAllocator::ResetTempAllocations",)  # which TensorFlow Lite Micro calls after each operator


class Profiler:
    """Counts between the firmware's `board::Profile(true)` and `board::Profile(false)`, for an `EmulatedBoard`.

    Args:
        program: what `build_firmware` made of a bundle, an ELF file with symbols.
        folder: where the plugin is compiled and counts are kept.
        num_layers: of the bundle's tables; 0: there are none, and no layers are told apart.
        flash: of the board.

    Attributes:
        options: of QEMU.

    Raises:
        RuntimeError: no C compiler for this machine, or a QEMU that does not load the plugin.

    Example:
        >>> profiler = Profiler(program, folder)  # doctest: +SKIP
        >>> with EmulatedBoard(bundle, program, profiler=profiler) as board:  # doctest: +SKIP
        ...     board.start()
        >>> profiler.functions()  # doctest: +SKIP
    """

    def __init__(
        self,
        program: str | os.PathLike,
        folder: str | os.PathLike,
        *,
        num_layers: int = 0,
        flash: cortex_m4.Flash = cortex_m4.NRF52840,
    ):
        symbols = _Symbols(program)
        self._bounds, self._names = symbols.bounds, symbols.names
        self._num = int(self._bounds[-1] - self._bounds[0]) // 2
        counts, costs = pathlib.Path(folder, "counts"), pathlib.Path(folder, "costs")
        self._counts = np.memmap(counts, np.uint64, "w+", shape=2 * self._num + _NUM_KINDS * _NUM_STEPS * 3)
        costs.write_bytes(_costs(program, self._bounds).tobytes() + _kinds(self._bounds, self._names).tobytes())
        first, last = symbols.layers if num_layers else (0, 0)
        values: dict[str, object] = {"file": _compile_plugin(folder), "counts": counts, "costs": costs}
        values |= {"begin": self._bounds[0], "end": self._bounds[-1]}
        values |= {"tables": first, "tables_end": last, "row": max(1, (last - first) // max(1, num_layers))}
        values |= {"wait": flash.wait_cycles, "line": flash.line_bytes}
        values |= {"cache": flash.cache_lines, "data_cache": flash.data_cache_lines}
        self.options = ["-plugin", ",".join(f"{name}={str(value).replace(',', ',,')}" for name, value in values.items())]
        _check_loads(self.options)

    def functions(self) -> dict[str, Work]:
        """By function, without its callees, in decreasing order of instructions. Functions of one name are counted together."""
        parts = [self._by_function(self._counts[i * self._num : (i + 1) * self._num]) for i in range(2)]
        return {name: Work(count, parts[1][name]) for name, count in parts[0].most_common() if count}

    def kinds(self) -> dict[str, dict[int, Work]]:
        """By kind of work (the keys of KINDS) and step: the row in the tables of layers, or the operator of a forward pass."""
        counts = self._counts[2 * self._num :].reshape(_NUM_KINDS, _NUM_STEPS, 3)
        return {
            kind: {step: Work(*map(int, counts[i, step])) for step in map(int, np.flatnonzero(counts[i, :, 0]))}
            for i, kind in enumerate(KINDS)
        }

    def _by_function(self, counts: np.ndarray) -> collections.Counter[str]:
        until = np.append(0, np.cumsum(counts, dtype=np.int64))  # before each halfword
        totals = np.diff(until[(self._bounds - self._bounds[0]) // 2])
        by_name: collections.Counter[str] = collections.Counter()
        for name, total in zip(self._names, totals, strict=True):
            by_name[name] += int(total)
        return by_name


class _Symbols:
    """Of a program: `bounds` (N + 1,) are the addresses at which its functions begin, ascending, and the last one ends."""

    def __init__(self, program: str | os.PathLike):
        rows = [line.split() for line in _output([_NM, "--numeric-sort", "--print-size", program]).splitlines()]
        code = {int(row[0], 16): row[-1] for row in rows if row[-2] in ("t", "T", "W")}
        end = next(int(row[0], 16) for row in rows if row[-1] == "flash_used")
        self.bounds = np.array([*code, end])
        self.names = _output([_DEMANGLE, "--no-params"], "\n".join(code.values())).splitlines()
        tables = [row for row in rows if len(row) == 4 and "kLayers" in row[-1]]
        self.layers = (int(tables[0][0], 16), int(tables[0][0], 16) + int(tables[0][1], 16)) if tables else (0, 0)


def _costs(program: str | os.PathLike, bounds: np.ndarray) -> np.ndarray:
    """A byte for each halfword of code, see `cortex_m4.costs`."""
    begin, end = int(bounds[0]), int(bounds[-1])
    text = _output([_DISASSEMBLE, "-d", "--no-show-raw-insn", f"--start-address={begin}", f"--stop-address={end}", program])
    costs = np.zeros((end - begin) // 2, np.uint8)
    for address, cost in cortex_m4.costs(cortex_m4.parse(text)).items():
        costs[(address - begin) // 2] = cost
    return costs


def _kinds(bounds: np.ndarray, names: list[str]) -> np.ndarray:
    """A byte for each halfword of code: the kind of work that the function which begins there begins, or _STEP."""
    kinds = np.zeros((bounds[-1] - bounds[0]) // 2, np.uint8)
    numbers = {ending: number for number, endings in enumerate(KINDS.values()) for ending in endings}
    for address, name in zip(bounds, names):
        found = [number for ending, number in (dict.fromkeys(_ENDS_A_STEP, _STEP) | numbers).items() if name.endswith(ending)]
        kinds[(address - bounds[0]) // 2] = found[0] if found else 0
    return kinds


def _compile_plugin(folder: str | os.PathLike) -> pathlib.Path:
    compiler, plugin = os.environ.get("CC", "cc"), pathlib.Path(folder, "profiler.so")
    if shutil.which(compiler) is None:
        raise RuntimeError(
            f"Counting instructions by function needs a C compiler for this machine, {compiler!r} is not there. Install with: "
            "apt-get install --no-install-recommends gcc libc6-dev; or name one in CC."
        )
    _output([compiler, *_PLUGIN, firmware_dir() / "profiler.c", "-o", plugin])
    return plugin


def _check_loads(options: list[str]) -> None:
    """QEMU loads plugins before all else; then it is told to quit."""
    command = [EMULATOR, "-machine", "none", "-display", "none", "-serial", "none", "-monitor", "stdio", *options]
    done = subprocess.run(command, input="quit\n", capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"{EMULATOR} does not load the plugin that counts instructions by function: {done.stderr.strip()}. It must have "
            "been built with plugins, their interface being version 1, as Debian 12's QEMU 7.2 is; or leave the profile out."
        )


def _output(command: collections.abc.Iterable[str | os.PathLike], text: str | None = None) -> str:
    done = subprocess.run([str(part) for part in command], input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"The firmware cannot be profiled: {' '.join(map(str, command))}\n{done.stderr[-3000:]}")
    return done.stdout
