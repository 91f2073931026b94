"""A microcontroller's flash memory, imitated in RAM: to run a bundle on the host, and to cut the power in tests."""

import numpy as np

from keras_tinytrain.tflm_runtime.rounding import BLOCK_BYTES


class PowerCut(Exception):
    """The power went while flash was erased or written."""


class NorFlash:
    """NOR flash: `erase` sets a whole page to 0xFF, `write` can only clear bits, and only once after each erase.

    Args:
        num_bytes: its size, whole pages.
        page_bytes: of one erase.

    Attributes:
        data: (num_bytes,) uint8, its content; at first it is not erased.
        num_erases: of each page.
    """

    def __init__(self, num_bytes: int, *, page_bytes: int):
        self.page_bytes = page_bytes
        self.data = np.full(num_bytes, 0xA5, np.uint8)
        self.num_erases = [0] * (num_bytes // page_bytes)
        self._left: int | None = None

    def erase(self, offset: int) -> None:
        """Erase the page that begins at `offset`."""
        page = self.data[offset : offset + self.page_bytes]
        if offset % self.page_bytes or len(page) != self.page_bytes:
            raise RuntimeError(
                f"Offset {offset} begins no page of {self.page_bytes} B in a flash of {self.data.size} B: erase whole pages."
            )
        self._change(page, np.full(self.page_bytes, 0xFF, np.uint8))
        self.num_erases[offset // self.page_bytes] += 1

    def write(self, offset: int, block: bytes) -> None:
        """Write one block of `BLOCK_BYTES` to bytes that are erased."""
        target = self.data[offset : offset + BLOCK_BYTES]
        if offset % BLOCK_BYTES or len(block) != BLOCK_BYTES or len(target) != BLOCK_BYTES:
            raise RuntimeError(f"A write expects a whole block of {BLOCK_BYTES} B. Received: {len(block)} B at offset {offset}")
        if (target != 0xFF).any():
            raise RuntimeError(f"The block at offset {offset} was written before: erase its page first.")
        self._change(target, np.frombuffer(block, np.uint8))

    def cut_power_after(self, num_bytes: int) -> None:
        """Let erases and writes change so many bytes in all, then raise `PowerCut`. The next byte is left half changed."""
        self._left = num_bytes

    def power_on(self) -> None:
        """Let erases and writes go on without a power cut."""
        self._left = None

    def _change(self, target: np.ndarray, values: np.ndarray) -> None:
        """Change byte by byte until the power goes."""
        if self._left is None or self._left >= len(values):
            target[:] = values
            self._left = None if self._left is None else self._left - len(values)
            return
        cut, self._left = self._left, 0
        target[:cut] = values[:cut]
        target[cut] = (target[cut] & 0x0F) | (values[cut] & 0xF0)
        raise PowerCut(f"after {cut} of {len(values)} bytes")
