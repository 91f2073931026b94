"""Boards a bundle can be exported for, and what they hold."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Board:
    """Memory and processor of a board.

    Args:
        name: as given to `board`.
        cpu: the core a sketch runs on.
        clock_hz: its clock.
        sram_bytes: RAM that a sketch may claim, the core's own stacks and heap included.
        flash_bytes: flash that a sketch may fill.
        reserved_sram_bytes: of `sram_bytes`, what an export leaves free. Raise it with `dataclasses.replace` by what
            your core and the rest of your sketch need.
    """

    name: str
    cpu: str
    clock_hz: int
    sram_bytes: int
    flash_bytes: int
    reserved_sram_bytes: int = 0

    @property
    def available_sram_bytes(self) -> int:
        """What models and training may take."""
        return self.sram_bytes - self.reserved_sram_bytes


BOARDS = {
    each.name: each
    for each in (
        # nRF52840, 1 MB flash less the bootloader's; an empty sketch of the mbed core takes about 43 KB, its main stack included
        Board("nano33ble", "Cortex-M4F", 64_000_000, 262_144, 983_040, reserved_sram_bytes=45_056),
        Board("portenta_h7", "Cortex-M7", 480_000_000, 523_624, 786_432),  # AXI SRAM; the M7's half of the flash
        Board("rp2040", "Cortex-M0+", 133_000_000, 270_336, 2_097_152),  # Raspberry Pi Pico
        Board("esp32s3", "Xtensa LX7", 240_000_000, 327_680, 1_310_720),  # static RAM; the default app partition
        Board("stm32f746", "Cortex-M7", 216_000_000, 327_680, 1_048_576),  # DTCM + SRAM1 + SRAM2
    )
}


def board(name: str | Board) -> Board:
    """The board called `name`; a `Board` is passed through. Raises ValueError with the known names."""
    if isinstance(name, Board):
        return name
    if name not in BOARDS:
        raise ValueError(f"Unknown board {name!r}. Known: {', '.join(BOARDS)}, or pass a Board of your own.")
    return BOARDS[name]
