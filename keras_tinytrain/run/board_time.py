"""Seconds and joules of a board's processor, from its cycles."""

from collections.abc import Mapping
from typing import Any

from keras_tinytrain.run.emulation import EmulatedTask

MILLIAMPERES = {"nano33ble": 3.3}  # nRF52840 Product Specification: CPU running from flash at 64 MHz, DC/DC regulator, 3 V
VOLTS = 3.0


def seconds_by_part(emulated: EmulatedTask, board: Mapping[str, Any]) -> dict[str, float]:
    """Seconds that a task takes on a bundle's manifest["board"], by part and the "total", an estimate."""
    return {part: cycles / board["clock_hz"] for part, cycles in emulated.cycles.items()}


def joules(cycles: int, board: Mapping[str, Any]) -> float | None:
    """Energy of so many cycles of a manifest["board"], an estimate; None where the board's current is not known."""
    if board["name"] not in MILLIAMPERES:
        return None
    return cycles / board["clock_hz"] * MILLIAMPERES[board["name"]] * 1e-3 * VOLTS
