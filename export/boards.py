"""Boards that a bundle can be exported for: processor, memory, and the library that runs models on it."""

import dataclasses
import os
import pathlib
import sys
import typing

from keras_tinytrain._kinds import check_kinds
from keras_tinytrain.choose.arena import KERNELS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KINDS = {int: "a number of at least 1", str: "a text"}


@dataclasses.dataclass(frozen=True)
class Board:
    """Memory and processor of a board.

    Args:
        name: as given to `board`.
        cpu: the core a sketch runs on.
        clock_hz: its clock.
        sram_bytes: RAM that a sketch may claim, the core's own stacks and heap included.
        flash_bytes: flash that a sketch may fill.
        reserved_sram_bytes: the part of `sram_bytes` that an export leaves free. Raise it with `dataclasses.replace` by the
            bytes that your core, its stack (learning takes up to 2.7 KB of it) and the rest of your sketch need.
        flash_page_bytes: bytes that an erase of flash clears, a multiple of 256. The sketch then keeps what was learned in
            flash, and also samples if asked. 0: not known, the sketch writes nothing into flash.
        reserved_flash_bytes: the part of `flash_bytes` that an export leaves free, for your core, its C library and the rest of
            your sketch. 0: there is no core, and the C library is promised as code.
        kernels: those of the TensorFlow Lite Micro that you link, whose memory an export promises: "arduino" (the libraries of
            the Arduino IDE: CMSIS-NN of 2023 and structs twice as large; the most that an Arm core takes), "cmsis-nn" (today's
            sources with CMSIS-NN), "esp-nn" (esp-tflite-micro on an ESP32-S3) or "reference" (today's sources without either).
    """

    name: str
    cpu: str
    clock_hz: int
    sram_bytes: int
    flash_bytes: int
    reserved_sram_bytes: int = 0
    flash_page_bytes: int = 0
    reserved_flash_bytes: int = 0
    kernels: str = "arduino"

    def __post_init__(self):
        check_kinds(self)
        for name in ("clock_hz", "sram_bytes", "flash_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} expects a number of at least 1. Received: {getattr(self, name)}")
        for memory in ("sram", "flash"):
            reserved = getattr(self, f"reserved_{memory}_bytes")
            if not 0 <= reserved < getattr(self, f"{memory}_bytes"):
                raise ValueError(
                    f"reserved_{memory}_bytes expects a number from 0 to less than {memory}_bytes. Received: {reserved}"
                )
        if self.flash_page_bytes % 256:
            raise ValueError(f"flash_page_bytes expects a multiple of 256. Received: {self.flash_page_bytes}")
        if self.kernels not in KERNELS:
            raise ValueError(f"kernels expects one of {', '.join(KERNELS)}. Received: {self.kernels!r}")

    @property
    def available_sram_bytes(self) -> int:
        """Bytes that models and training may take."""
        return self.sram_bytes - self.reserved_sram_bytes

    @property
    def available_flash_bytes(self) -> int:
        """Bytes that models, code and what is kept may take."""
        return self.flash_bytes - self.reserved_flash_bytes


# Sizes are those that the boards' Arduino cores check a sketch against: boards.txt of ArduinoCore-mbed (nano33ble, pico, and
# envie_m7 with the flash split in halves) and of arduino-esp32 with its default partitions, disco_f746ng.json of
# platform-ststm32. What is reserved is that core's own, as arduino-cli reports it of an empty sketch: 85,328 B of flash and 44,552
# B of RAM on a Nano 33 BLE; on an ESP32-S3 under 340 KB of flash (core 3), and about 64 KB of RAM with its heap and tasks. On the
# others it is yours to reserve.
BOARDS = {
    each.name: each
    for each in (
        Board("nano33ble", "Cortex-M4F", 64_000_000, 262_144, 983_040, 45_056, 4_096, 86_016),  # nRF52840
        Board("portenta_h7", "Cortex-M7", 480_000_000, 523_624, 786_432),  # AXI SRAM; the M7's half of the flash
        Board("rp2040", "Cortex-M0+", 133_000_000, 270_336, 2_097_152),  # Raspberry Pi Pico
        # static RAM; a fifth of it is left to the core's stacks and heap. Flash: a program's slot in partitions.csv, as in the default
        Board("esp32s3", "Xtensa LX7", 240_000_000, 327_680, 1_310_720, 65_536, 4_096, 348_160, "esp-nn"),
        Board("stm32f746", "Cortex-M7", 216_000_000, 327_680, 1_048_576),  # DTCM + SRAM1 + SRAM2
    )
}


def board(name: str | os.PathLike | Board) -> Board:
    """The board called `name`, or described by the TOML file of that name; a `Board` is passed through.

    Args:
        name: one of `BOARDS`; or a path that ends in ".toml", of a file with the fields of `Board`:

            name = "my_board"
            cpu = "Cortex-M4F"
            clock_hz = 80_000_000
            sram_bytes = 131_072
            flash_bytes = 1_048_576
            reserved_sram_bytes = 16_384  # optional, 0
            flash_page_bytes = 2_048  # optional, 0
            reserved_flash_bytes = 65_536  # optional, 0
            kernels = "cmsis-nn"  # optional, "arduino"

    Raises:
        ValueError: no board has that name, or the file does not describe one; it says what is wrong.
    """
    if isinstance(name, Board):
        return name
    if str(name).endswith(".toml"):
        return _read_board(pathlib.Path(name))
    if name not in BOARDS:
        raise ValueError(
            f"Unknown board {name!r}. Known: {', '.join(BOARDS)}, or a .toml file that describes one, see "
            "keras_tinytrain.export.board."
        )
    return BOARDS[name]


def _read_board(file: pathlib.Path) -> Board:
    if not file.exists():
        raise ValueError(f"{file} does not exist: name a .toml file that describes a board, or one of {', '.join(BOARDS)}.")
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as TOML: {error}") from error
    kinds = typing.get_type_hints(Board)
    required = {field.name for field in dataclasses.fields(Board) if field.default is dataclasses.MISSING}
    if missing := required - values.keys():
        raise ValueError(f"{file} does not describe a board: {', '.join(sorted(missing))} missing.")
    for name, value in values.items():
        if name not in kinds:
            raise ValueError(f"{file}: unknown field {name!r}. Known: {', '.join(kinds)}.")
        if type(value) is not kinds[name] or (value in (0, "") and name in required):
            raise ValueError(f"{file}: {name} expects {_KINDS[kinds[name]]}. Received: {value!r}")
        if kinds[name] is int and value < 0:
            raise ValueError(f"{file}: {name} expects no negative number. Received: {value!r}")
    return Board(**values)
