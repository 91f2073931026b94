"""Whether a bundle fits its board and, where it does not, what would."""

from keras_tinytrain.choose.training_memory import with_total
from keras_tinytrain.export.boards import Board


def flash_bytes(frozen: bytes | None, trainable: bytes, **others: int) -> dict[str, int]:
    """Flash by part, in bytes, and in "total"; `others` are the parts beside the models."""
    return with_total({"frozen_model": len(frozen or b""), "trainable_model": len(trainable), **others})


def check_fits(target: Board, sram: dict[str, int], flash: dict[str, int], *, remedy: str = "") -> None:
    """Raise ValueError with the largest parts where a bundle needs more bytes than its board has.

    Args:
        sram, flash: bytes by part, and "total".
        remedy: the message's advice where there is too little SRAM.
    """
    for memory, parts, available, advice in (
        ("SRAM", sram, target.available_sram_bytes, remedy),
        (
            "flash",
            flash,
            target.available_flash_bytes,
            remedy or 'Use a smaller model, fewer samples or views, last_blocks=2 in the choice of a plan, or features="ram".',
        ),
    ):
        if parts["total"] > available:
            largest = sorted((item for item in parts.items() if item[0] != "total"), key=lambda item: -item[1])[:3]
            named = ", ".join(f"{name} {num_bytes:,} B" for name, num_bytes in largest)
            raise ValueError(
                f"The bundle needs {parts['total']:,} B of {memory}, board {target.name!r} has {available:,} B. Largest "
                f"parts: {named}. {advice}{' ' if advice else ''}Nothing was written."
            )
