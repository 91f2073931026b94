"""Flash memory as a microcontroller has it, in RAM: for running a bundle on the host, and for cutting its power in tests."""

import numpy as np

from keras_tinytrain.tflm_runtime.headers import constant

BLOCK_BYTES = constant("tinytrain_flash.h", "kFlashBlockBytes")  # what one write takes


class PowerCut(Exception):
    """The power went while flash was erased or written."""


class NorFlash:
    """NOR flash: `erase` sets a whole page to 0xFF, `write` can only clear bits, and only once after each erase.

    Args:
        num_bytes: its size, whole pages.
        page_bytes: what one erase clears.

    Attributes:
        data: (num_bytes,) uint8, what it holds; at first not erased.
        num_erases: of each page.
    """

    def __init__(self, num_bytes: int, *, page_bytes: int):
        self.page_bytes = page_bytes
        self.data = np.full(num_bytes, 0xA5, np.uint8)
        self.num_erases = [0] * (num_bytes // page_bytes)
        self._left = None

    def erase(self, offset: int) -> None:
        """Erase the page that begins at `offset`."""
        page = self.data[offset : offset + self.page_bytes]
        if offset % self.page_bytes or len(page) != self.page_bytes:
            raise RuntimeError(f"offset {offset} begins no page of {self.page_bytes} B in a flash of {self.data.size} B")
        self._change(page, np.full(self.page_bytes, 0xFF, np.uint8))
        self.num_erases[offset // self.page_bytes] += 1

    def write(self, offset: int, block: bytes) -> None:
        """Write one block of `BLOCK_BYTES` to bytes that are erased."""
        target = self.data[offset : offset + BLOCK_BYTES]
        if offset % BLOCK_BYTES or len(block) != BLOCK_BYTES or len(target) != BLOCK_BYTES:
            raise RuntimeError(f"a write of {len(block)} B at {offset} is no whole block of {BLOCK_BYTES} B")
        if (target != 0xFF).any():
            raise RuntimeError(f"the block at {offset} was not erased since it was written")
        self._change(target, np.frombuffer(block, np.uint8))

    def cut_power_after(self, num_bytes: int) -> None:
        """Let erases and writes come so far in all, then raise `PowerCut`; the byte that is hit is left half changed."""
        self._left = num_bytes

    def power_on(self) -> None:
        """No power cut any more."""
        self._left = None

    def _change(self, target, values):
        """Change byte by byte until the power goes."""
        if self._left is None or self._left >= len(values):
            target[:] = values
            self._left = None if self._left is None else self._left - len(values)
            return
        cut, self._left = self._left, 0
        target[:cut] = values[:cut]
        target[cut] = (target[cut] & 0x0F) | (values[cut] & 0xF0)
        raise PowerCut(f"after {cut} of {len(values)} bytes")
