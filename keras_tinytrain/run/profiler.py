"""Instructions by function of a firmware on the emulated board, counted one by one by a plugin of QEMU."""

import collections
import collections.abc
import os
import pathlib
import shutil
import subprocess

import numpy as np

from keras_tinytrain.run.firmware import EMULATOR
from keras_tinytrain.tflm_runtime import firmware_dir

_NM, _DEMANGLE = "arm-none-eabi-nm", "arm-none-eabi-c++filt"
_PLUGIN = ("-shared", "-fPIC", "-O2", "-std=gnu11")


class Profiler:
    """Counts instructions between the firmware's `board::Profile(true)` and `board::Profile(false)`, for an `EmulatedBoard`.

    Args:
        program: what `build_firmware` made of a bundle, an ELF file with symbols.
        folder: where the plugin is compiled and counts are kept.

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

    def __init__(self, program: str | os.PathLike, folder: str | os.PathLike):
        self._bounds, self._names = _functions(program)
        begin, end, file = self._bounds[0], self._bounds[-1], pathlib.Path(folder, "counts")
        self._counts = np.memmap(file, np.uint64, "w+", shape=(end - begin) // 2)
        values = {"file": _compile_plugin(folder), "counts": file, "begin": begin, "end": end}
        self.options = ["-plugin", ",".join(f"{name}={str(value).replace(',', ',,')}" for name, value in values.items())]
        _check_loads(self.options)

    def functions(self) -> dict[str, int]:
        """Instructions by function, without its callees, in decreasing order. Functions of one name are counted together."""
        until = np.append(0, np.cumsum(self._counts, dtype=np.int64))  # instructions before each halfword
        totals = np.diff(until[(self._bounds - self._bounds[0]) // 2])
        by_name: collections.Counter[str] = collections.Counter()
        for name, total in zip(self._names, totals, strict=True):
            by_name[name] += int(total)
        return {name: total for name, total in by_name.most_common() if total}


def _functions(program: str | os.PathLike) -> tuple[np.ndarray, list[str]]:
    """Addresses (N + 1,) at which the functions begin, ascending, and the last one ends; their names."""
    rows = [line.split() for line in _output([_NM, "--numeric-sort", program]).splitlines()]
    code = {int(row[0], 16): row[2] for row in rows if row[1] in ("t", "T", "W")}
    end = next(int(row[0], 16) for row in rows if row[2:] == ["flash_used"])
    names = _output([_DEMANGLE, "--no-params"], "\n".join(code.values())).splitlines()
    return np.array([*code, end]), names


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
