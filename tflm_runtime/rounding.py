"""How the runtime rounds sizes up: buffers in RAM to the arena's alignment, writes of flash to whole blocks."""

from keras_tinytrain.tflm_runtime.headers import constant

ALIGNMENT = constant("tinytrain/memory/memory.h", "kArenaAlignment")
BLOCK_BYTES = constant("tinytrain_flash.h", "kFlashBlockBytes")


def round_up(num_bytes: int, unit: int) -> int:
    """The smallest multiple of `unit` bytes that is at least `num_bytes`.

    Example:
        >>> round_up(17, 16), round_up(16, 16), round_up(0, 16)
        (32, 16, 0)
    """
    return -(-num_bytes // unit) * unit


def align(num_bytes: int) -> int:
    """Bytes that a buffer of `num_bytes` takes in an arena."""
    return round_up(num_bytes, ALIGNMENT)


def whole_blocks(num_bytes: int) -> int:
    """Bytes of flash that `num_bytes` take, written block by block."""
    return round_up(num_bytes, BLOCK_BYTES)


def whole_pages(num_bytes: int, page_bytes: int) -> int:
    """`num_bytes` rounded up to pages of flash; 0 where the page size is not known (0)."""
    return round_up(num_bytes, page_bytes) if page_bytes else 0
