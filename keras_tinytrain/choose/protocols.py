"""Types that the parts of a choice share: a loss, a scorer, an accounting of memory."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from keras_tinytrain.model.layers import LayerTable

# loss(outputs, indices) -> the SUM, a scalar tensor, of the losses of the samples `indices`; `outputs` are the model's for them
Loss = Callable[[Any, np.ndarray], Any]

# scorer(layer names) -> {layer name: Fisher information of its output channels, float64 (channels,)}
Scorer = Callable[[Sequence[str]], dict[str, np.ndarray]]


class Accounting(Protocol):
    """The bytes that a memory budget counts: `sram.DeviceAccounting`, `paper_cost.PaperAccounting`, or one of your own."""

    def memory_bytes(self, table: LayerTable, choice: dict[str, int]) -> int:
        """Bytes that training takes.

        Args:
            table: the model's layers.
            choice: {layer name: number of trained channels}.
        """
        ...
