"""The C++ runtime that trains on the device, and a firmware around it: where their sources lie once installed."""

import pathlib


def source_dir():
    """Return the folder of the C++ sources, which is at once the Arduino library's src/ and what the host build compiles.

    Returns:
        pathlib.Path: folder that holds tinytrain.h, tinytrain_tables.h and every .cpp.

    Example:
        >>> (source_dir() / "tinytrain.h").is_file()
        True
    """
    return pathlib.Path(__file__).resolve().parent / "src"


def firmware_dir():
    """Return the folder of the firmware for an emulated Cortex-M4F board: startup, linker script, main.

    Example:
        >>> (firmware_dir() / "link.ld").is_file()
        True
    """
    return pathlib.Path(__file__).resolve().parent / "firmware"
