"""Where something does not fit a board: device settings that do, in the words of the command line, each one tried."""

import dataclasses
import typing
from collections.abc import Callable, Iterator

from keras_tinytrain.device_settings import DeviceSettings
from keras_tinytrain.export.boards import BOARDS, Board
from keras_tinytrain.export.conversion import Converted
from keras_tinytrain.export.layout import Layout, device_accounting, lay_out
from keras_tinytrain.export.request import ExportRequest
from keras_tinytrain.export.settings import FLAGS

Size = Callable[[DeviceSettings], int | None]  # bytes of SRAM with these settings; None: they do not fit


def advice(request: ExportRequest, converted: Converted, layout: Layout) -> str:
    """What to do about an export that does not fit its board: other settings of the device or, of SRAM, another plan."""

    def size(device: DeviceSettings) -> int | None:
        tried = lay_out(request.with_device(device), converted)
        return tried.sram["total"] if tried.fits else None

    other_settings = what_fits(request.device, request.board, size)
    if layout.sram["total"] <= request.board.available_sram_bytes:
        return other_settings
    return f"{other_settings} {_another_plan(request, layout)}".strip()


def _another_plan(request: ExportRequest, layout: Layout) -> str:
    available = request.board.available_sram_bytes
    frozen_bytes = layout.arenas["frozen_arena"] + layout.memory.frozen["image"]
    if frozen_bytes > available:
        return (
            f"The frozen part alone takes {frozen_bytes:,} B, so that no plan as late as this one fits: use smaller images "
            "or another board."
        )
    if frozen_bytes + layout.memory.state["samples"] > available:
        return ""  # what the samples leave holds no plan
    accounting = device_accounting(request)
    python = f"`Budget(memory={available})` and `accounting={accounting}`"
    return f"Plan again with `keras-tinytrain plan {_options(request)}`, or in Python with {python}."


def _options(request: ExportRequest) -> str:
    """What `keras-tinytrain plan` is to be told of the device; of a board that it does not know, the memory."""
    board = request.device.board
    named = BOARDS.get(board, request.board)
    known = board.endswith(".toml") or (
        board in BOARDS and dataclasses.replace(named, kernels=request.board.kernels) == request.board
    )
    since = DeviceSettings(max_samples=0, board="" if known else board)
    memory = "" if known else f"--memory {request.board.available_sram_bytes} "
    return memory + flags(request.device, since=since)


def flags(device: DeviceSettings, *, since: DeviceSettings) -> str:
    """The options of `plan` and `export` for which `device` differs from `since`."""
    changed = (name for name in FLAGS if getattr(device, name) != getattr(since, name))
    return " ".join(option for name in changed for option in spelled(FLAGS[name], getattr(device, name)))


def spelled(flag: str, value: typing.Any) -> list[str]:
    """An option as it is typed; views one by one, and none where there are no views or maps."""
    if flag == FLAGS["maps"]:
        return [f"{flag} {' '.join(value)}"] if value else []
    if flag == FLAGS["views"]:
        return [f"{flag} {down} {right}{' 1' if mirrored else ''}" for down, right, mirrored in value]
    return [f"{flag} {value}"]


def what_fits(device: DeviceSettings, board: Board, size: Size) -> str:
    """A sentence with all settings that fit by one change of `device`; else with the first that fits by several; else "".

    Args:
        device: does not fit.
        board: it is for.
        size: tries settings.
    """
    found = [(each, num_bytes) for each in _lighter(device, board) if (num_bytes := size(each)) is not None]
    if fewer := _fewer_samples(device, size):
        found.append(fewer)
    if not found:
        found = [(each, num_bytes) for each in _all_together(device, board) if (num_bytes := size(each)) is not None][:1]
    told = " or ".join(f"`{flags(each, since=device)}` ({num_bytes:,} B)" for each, num_bytes in found)
    return f"What fits: {told}." if told else ""


def _lighter(device: DeviceSettings, board: Board) -> Iterator[DeviceSettings]:
    """`device` with one change that takes less RAM."""
    if board.flash_page_bytes and device.features != "flash":
        yield dataclasses.replace(device, features="flash")
    if device.weights != "int8":
        yield dataclasses.replace(device, weights="int8")
    if device.optimizer != "sgd":
        yield dataclasses.replace(device, optimizer="sgd")


def _fewer_samples(device: DeviceSettings, size: Size) -> tuple[DeviceSettings, int] | None:
    """Half as many samples, and half of these, down to one of each class: the first that fits."""
    while device.max_samples > device.num_classes:
        device = dataclasses.replace(device, max_samples=max(device.max_samples // 2, device.num_classes))
        if (num_bytes := size(device)) is not None:
            return device, num_bytes
    return None


def _all_together(device: DeviceSettings, board: Board) -> Iterator[DeviceSettings]:
    """`device` with one change, with two, and so on; at last with one sample of each class."""
    while changed := next(_lighter(device, board), None):
        yield (device := changed)
    yield dataclasses.replace(device, max_samples=min(device.max_samples, device.num_classes))
