"""A serial port, opened; or what stands in the way, and which ports there are."""

import os
import typing

if typing.TYPE_CHECKING:
    import serial


def open_port(port: str, baudrate: int, *, read_seconds: float, write_seconds: float) -> "serial.SerialBase":
    """Open a port.

    Args:
        port: its name, or a URL of pyserial.
        baudrate: of ports that have one.
        read_seconds, write_seconds: after which a read or a write gives up.

    Raises:
        ImportError: pyserial is not installed.
        OSError: the port cannot be opened.
    """
    try:
        import serial
    except ImportError as error:
        raise ImportError(
            'Talking to a board needs pyserial. Install it with: pip install "keras-tinytrain[device]"'
        ) from error
    try:
        return serial.serial_for_url(port, baudrate=baudrate, timeout=read_seconds, write_timeout=write_seconds)
    except (OSError, ValueError) as error:  # a URL of a kind that pyserial does not know is a ValueError
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise OSError(f"The port {port} cannot be opened: {reason}. USB ports of this computer: {_usb_ports()}.") from error


def _usb_ports() -> str:
    from serial.tools import list_ports

    return ", ".join(each.device for each in list_ports.comports() if each.vid is not None) or "none"
