"""Build the firmware that runs a bundle on an emulated Cortex-M4F board, within that board's memory."""

import collections.abc
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess

from keras_tinytrain.export.boards import Board
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.tables_version import check_current
from keras_tinytrain.export.templates import resolver_method
from keras_tinytrain.export.tflite.flatbuffer import operator_names
from keras_tinytrain.run._rendered_sources import render_bundle
from keras_tinytrain.run.users_tflm import UsersTflm, users_tflm
from keras_tinytrain.tflm_runtime import firmware_dir, source_dir, sources

CPU = "Cortex-M4F"
COMPILER, EMULATOR = "arm-none-eabi-g++", "qemu-system-arm"
PACKAGES = "gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib qemu-system-arm"
STACK_BYTES = 8192  # set aside by the linker; the stack's high-water mark is measured
_CORE = (
    "-mcpu=cortex-m4",
    "-mthumb",
    "-mfpu=fpv4-sp-d16",
    "-fno-rtti",
    "-fno-exceptions",
    "-funsigned-char",
    "-fno-threadsafe-statics",
    "-ffunction-sections",
    "-fdata-sections",
)
ARDUINO = ("-mfloat-abi=softfp", "-Os")  # as the Nano 33 BLE's core has it, so that figures are those of a sketch
_LINK = ("-Wl,--gc-sections", "-nostartfiles", "--specs=nano.specs", "--specs=nosys.specs", "-Wl,--no-warn-rwx-segments")
_SSRAM, _SSRAM_BYTES, _PSRAM = 0x20000000, 4 << 20, 0x21000000  # of the emulated machine: 4 MB, and 16 MB for larger boards
_OVERFLOW = re.compile(r"region `(FLASH|RAM)' overflowed by (\d+) bytes")
_MEMORY = {"FLASH": "flash", "RAM": "SRAM"}
Paths = collections.abc.Iterable[str | os.PathLike]
Flags = collections.abc.Sequence[str]


def check_tools() -> None:
    """Raise RuntimeError, with the line that installs them, where the compiler or the emulator is missing."""
    missing = [tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None]
    if missing:
        raise RuntimeError(
            f"Emulating a board needs {' and '.join(missing)}. Install with: apt-get install --no-install-recommends {PACKAGES}"
        )


def build_firmware(
    bundle: Bundle,
    folder: str | os.PathLike,
    *,
    main: str = "main.cpp",
    board: Board | None = None,
    arena_bytes: int | None = None,
    library: Paths | None = None,
    teaching: bool = False,
) -> pathlib.Path:
    """Compile and link a bundle's firmware, from sources that are rendered anew: nothing of the bundle is compiled as it stands.

    Args:
        bundle: exported for a board with a Cortex-M4F; its flash and SRAM are the limits.
        folder: where objects and the program are written.
        main: the source of tflm_runtime/firmware with the program's main function.
        board: whose flash and SRAM are the limits; None: the bundle's.
        arena_bytes: of the models' arena; None: as exported.
        library: what `compile_library` made; None: it is compiled into `folder`.
        teaching: whether its serial port also knows the commands of tinytrain_teaching.h, as a sketch's does.

    Returns:
        The program, an ELF file.

    Raises:
        RuntimeError: a tool is missing, or something does not compile.
        ValueError: the TensorFlow Lite Micro that the user named cannot be used; or the bundle is for another processor or another
            version of the runtime, or does not fit its board. The error says by how many bytes.
    """
    check_tools()
    board = board or Board(**bundle.manifest["board"])
    if board.cpu != CPU:
        raise ValueError(
            f"The emulated processor is a {CPU}; the bundle was exported for {board.name!r}, a {board.cpu}. Export it for "
            "nano33ble, or for a Board with that cpu."
        )
    if board.sram_bytes & (board.sram_bytes - 1):
        raise ValueError(
            f"The emulated SRAM must be a power of two, the bundle's board has {board.sram_bytes:,} B: export it for a Board "
            "with such a size."
        )
    check_current(bundle.path / "tables.cpp")
    tflm = users_tflm()
    library = compile_library(folder) if library is None else library
    parts = [*_sources(main, tflm), *library, *render_bundle(bundle, folder)]
    arena = arena_bytes or bundle.manifest["sram"]["model_arena"]
    flags = [f"-I{folder}", f"-DMODEL_ARENA_BYTES={arena}", *_bundle_flags(bundle, tflm)]
    flags += ["-DTEACHING"] if teaching else []
    try:
        return build_program(parts, folder, board=board, flags=flags, options=_options(tflm))
    except RuntimeError as error:
        reason = tflm.explain(str(error)) if tflm else None
        if reason is None:
            raise
        raise ValueError(reason) from error


def compile_library(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Objects of the runtime's own sources. They are the same for every bundle, so that several programs can be linked with them.

    Args:
        folder: where they are written.

    Raises:
        RuntimeError, ValueError: as `build_firmware`, of tools and of the user's TensorFlow Lite Micro.
    """
    check_tools()
    tflm = users_tflm()
    return compile_sources(sources(), folder, flags=_language(tflm), options=_options(tflm))


def build_program(
    sources: Paths, folder: str | os.PathLike, *, board: Board, flags: Flags, options: Flags = ARDUINO
) -> pathlib.Path:
    """Compile C++ sources and the board's startup, one object each, and link them within the board's memory.

    Args:
        sources: .cpp files, one of which has main(); objects and libraries among them are only linked.
        folder: where objects and the program are written.
        board: flash and SRAM.
        flags: further flags of the compiler.
        options: float ABI and optimisation.

    Returns:
        The program, an ELF file.

    Raises:
        RuntimeError, ValueError: as `build_firmware`.
    """
    sizes = [f"-DFLASH_BYTES={board.flash_bytes}", f"-DRAM_BYTES={board.sram_bytes}", f"-I{firmware_dir()}"]
    own = [firmware_dir() / name for name in ("startup.cpp", "semihosting.cpp")]
    objects = compile_sources([*own, *sources], folder, flags=[*sizes, *flags], options=options)
    return _link(objects, board, options, pathlib.Path(folder, "firmware.elf"))


def compile_sources(sources: Paths, folder: str | os.PathLike, *, flags: Flags, options: Flags = ARDUINO) -> list[pathlib.Path]:
    """Objects of C++ sources. A path that is no source (an object, a library) is returned as it is."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda source: _compile(pathlib.Path(source), folder, [*_CORE, *options, *flags]), sources))


def _sources(main: str, tflm: UsersTflm | None) -> list[str | pathlib.Path]:
    model = "model_tflm.cpp" if tflm else "model_on_host.cpp"
    own = [firmware_dir() / name for name in (main, model)]
    return [*own, *([tflm.library] if tflm else [])]


def _options(tflm: UsersTflm | None) -> Flags:
    return [*tflm.flags(), "-Os"] if tflm else ARDUINO


def _language(tflm: UsersTflm | None) -> list[str]:
    """Standard and folders of headers: C++14 as the Arduino core has it, unless the user's library needs a newer one."""
    own = [f"-I{folder}" for folder in (firmware_dir(), source_dir())]
    return [*own, *(f"-isystem{folder}" for folder in tflm.includes), "-std=gnu++17"] if tflm else [*own, "-std=gnu++14"]


def _bundle_flags(bundle: Bundle, tflm: UsersTflm | None) -> list[str]:
    size = bundle.input
    name = bundle.manifest["namespace"]
    flags = [f"-DBUNDLE={name}", f'-DNAME="{name}"', f"-DIMAGE_BYTES={size['height'] * size['width'] * size['channels']}"]
    flags += ["-DFROZEN"] if bundle.frozen else []
    flags += ["-DFLASH_PAGES"] if bundle.manifest["board"]["flash_page_bytes"] else []
    flags += ["-DFEATURE_FLASH"] if bundle.manifest["features"]["memory"] == "flash" else []
    flags += ["-DCLOSED_FORM"] if "closed_form" in bundle.manifest else []
    flags += _language(tflm)
    if tflm is None:
        return flags
    operators = sorted(operator_names(bundle.frozen) | operator_names(bundle.trainable))
    resolver = " ".join(f"resolver.{resolver_method(name)}();" for name in operators)
    return [*flags, f"-DRESOLVER={resolver}", f"-DNUM_OPERATORS={len(operators)}"]


def _compile(source: pathlib.Path, folder: str | os.PathLike, flags: Flags) -> pathlib.Path:
    if source.suffix != ".cpp":
        return source
    target = pathlib.Path(folder, f"{source.stem}.o")
    _run([COMPILER, *flags, "-c", source, "-o", target])
    return target


def _link(objects: list[pathlib.Path], board: Board, options: Flags, program: pathlib.Path) -> pathlib.Path:
    origin = _SSRAM if board.sram_bytes <= _SSRAM_BYTES else _PSRAM
    values = {"flash_bytes": board.flash_bytes, "ram_bytes": board.sram_bytes, "ram_origin": origin, "stack_bytes": STACK_BYTES}
    symbols = [f"-Wl,--defsym={name}={value}" for name, value in values.items()]
    script = firmware_dir() / "link.ld"
    try:
        _run([COMPILER, *_CORE, *options, *_LINK, *symbols, "-T", script, *objects, "-lm", "-o", program])
    except RuntimeError as error:
        over = dict(_OVERFLOW.findall(str(error)))
        if not over:
            raise
        lacks = " and ".join(f"{int(count):,} B of {_MEMORY[name]}" for name, count in over.items())
        raise ValueError(
            f"The firmware does not fit board {board.name!r}: it lacks {lacks}. Plan fewer or later layers, or keep fewer "
            "samples."
        ) from error
    return program


def _run(command: collections.abc.Iterable[str | os.PathLike]) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"The firmware does not compile: {' '.join(map(str, command))}\n{done.stderr[-3000:]}")
