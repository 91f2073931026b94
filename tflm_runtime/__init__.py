"""The C++ runtime that trains on the device, and a firmware around it: where their sources lie once installed."""

import pathlib


def source_dir():
    """Return the folder of the C++ sources, which is at once the Arduino library's src/ and what the host build compiles.

    Returns:
        pathlib.Path: folder of the public headers; what they need lies in its folder tinytrain/.

    Example:
        >>> (source_dir() / "tinytrain.h").is_file()
        True
    """
    return pathlib.Path(__file__).resolve().parent / "src"


def sources():
    """Return the C++ files that every build of the runtime compiles, from all folders below `source_dir()`, sorted."""
    return sorted(source_dir().rglob("*.cpp"))


def firmware_dir():
    """Return the folder of the firmware for an emulated Cortex-M4F board: startup, linker script, main.

    Example:
        >>> (firmware_dir() / "link.ld").is_file()
        True
    """
    return pathlib.Path(__file__).resolve().parent / "firmware"
