"""Between steps 3 and 4 of an export: the head that a board has room for, the first of a few that fits."""

import dataclasses
import logging
from collections.abc import Iterator

from keras_tinytrain.choose.sram import cut_before
from keras_tinytrain.export.conversion import Converted, convert, quantised
from keras_tinytrain.export.layout import Layout, lay_out
from keras_tinytrain.export.request import ExportRequest
from keras_tinytrain.model.layers import layer_table

_LOG = logging.getLogger(__name__)


def heads(request: ExportRequest) -> Iterator[ExportRequest]:
    """The request; with a closed-form head that reads the first of its maps alone; of a device that chooses, with prototypes alone.

    One map has a quarter to a third of the bytes. On 60 tasks of MCUNet it costs 0.6 +- 0.6 points (docs/results/accuracy.md).
    """
    yield request
    if (lighter := request.with_first_map()) is not None:
        yield lighter
    if request.chooses:
        yield request.with_prototypes()


def settled(request: ExportRequest) -> tuple[ExportRequest, Converted, Layout]:
    """The first of `heads` that fits its board, converted and laid out; else the request itself, or of a device that chooses, with
    prototypes alone. Where it is not the request, one line says why.

    Raises as `convert` and `lay_out` do. Whether the request itself fits is up to `Layout.check_fits`.
    """
    made, spare, lacking = None, None, ""
    whole = quantised(request)
    for each in heads(request):
        try:
            converted = convert(each, whole)
            found = each, converted, lay_out(each, converted)
        except ValueError as error:
            if not request.chooses or each.maps is None:
                raise
            lacking = lacking or str(error)
            continue
        lack, over = what_lacks(found[2]), _over_budget(found[2], request)
        if not lack and over and each.chooses:
            spare, lacking = spare or found, lacking or over
        elif not lack:
            if over and spare is not None:  # the plan's budget counts otherwise than an export
                return storing_maps(*spare)
            tell(each, request, lacking)
            return storing_maps(*found)
        made, lacking = found if request.chooses else made or found, lacking or lack
    assert made is not None
    return made


def storing_maps(request: ExportRequest, converted: Converted, layout: Layout) -> tuple[ExportRequest, Converted, Layout]:
    """The same export with its maps in the stored samples, if it fits so and they held the cut back; else as it stands.

    No layer between the first map and the first trained layer is then computed in each pass of the training.
    """
    spares = request.maps is not None and request.split and not request.adaptive and request.training.iterations != 0
    if not spares or not _hold_cut_back(request):
        return request, converted, layout
    other = dataclasses.replace(request, stores_maps=True)
    made = convert(other, converted.whole)
    found = other, made, lay_out(other, made)
    fits = not what_lacks(found[2]) and not _over_budget(found[2], request)
    return found if made.graph.stored_maps and fits else (request, converted, layout)


def _hold_cut_back(request: ExportRequest) -> bool:
    """Whether the model would be cut later if the closed-form head read no maps."""
    table, trained = layer_table(request.model), frozenset(layer.name for layer in request.plan.layers)
    return cut_before(table, trained, request.maps or ()) < cut_before(table, trained, ())


def what_lacks(layout: Layout) -> str:
    """What a layout takes more than its board has; else ""."""
    board, sram, flash = layout.board, layout.sram["total"], layout.flash["total"]
    if sram > board.available_sram_bytes:
        return f"It would take {sram:,} of {board.available_sram_bytes:,} B of SRAM."
    if flash > board.available_flash_bytes:
        return f"It would take {flash:,} of {board.available_flash_bytes:,} B of flash."
    return ""


def _over_budget(layout: Layout, request: ExportRequest) -> str:
    """What it takes more than the budget that the plan was chosen within; else ""."""
    budget, sram = request.plan.budget, layout.sram["total"]
    if budget is None or sram <= budget.memory_bytes:
        return ""
    return f"It would take {sram:,} B of SRAM, more than the {budget.memory_bytes:,} B that the plan was chosen within."


def tell(taken: ExportRequest, asked: ExportRequest, lacking: str) -> None:
    """Say which head was taken in place of the one that was asked for, and why; nothing where it is the same."""
    if taken is asked:
        return
    if taken.maps is None:
        _LOG.warning("The head is prototypes: board %s has no room for a closed-form one. %s", asked.board.name, lacking)
    else:
        names, all_names = ", ".join(taken.maps), ", ".join(asked.maps or ())
        _LOG.warning(
            "The closed-form head reads %s alone: board %s has no room for %s. %s", names, asked.board.name, all_names, lacking
        )
