"""Compute and memory of training a choice of channels, in the paper's accounting.

A choice is {layer name: number of trained channels}. An accounting answers `memory_bytes(table, choice)`. The paper's is here,
the device's in `choose.sram`.
"""

import dataclasses
import math

from keras_tinytrain.model.layers import LayerInfo, LayerTable
from keras_tinytrain.plan import Plan


def num_channels(plan: Plan) -> dict[str, int]:
    """{layer name: number of trained channels}; 0 where only biases are trained, which are not counted, as in the paper."""
    return {layer.name: len(layer.channels) if layer.kernel else 0 for layer in plan.layers}


def full_choice(table: LayerTable) -> dict[str, int]:
    """All channels of all trainable layers."""
    return {row.name: row.num_channels for row in table.weighted if row.trainable}


def num_trained_weights(table: LayerTable, choice: dict[str, int]) -> int:
    """Kernel elements that are trained (biases are not counted, as in the paper)."""
    return sum(table[name].weights_per_channel * count for name, count in choice.items())


def forward_macs(table: LayerTable) -> int:
    """Multiply-accumulates of one sample's forward pass."""
    return sum(row.macs for row in table)


def backward_macs(table: LayerTable, choice: dict[str, int]) -> int:
    """Multiply-accumulates of one sample's backward pass.

    sum over trained layers of r_l M_l  (weight gradients, r_l the fraction of channels trained)
    + sum of M_l over the layers after the earliest trained one  (input gradients).
    """
    weight_gradients = sum(table[name].macs * count // table[name].num_channels for name, count in choice.items())
    return weight_gradients + sum(row.macs for row, follows in zip(table, table.downstream(choice)) if follows)


def full_backward_macs(table: LayerTable) -> int:
    """Backward multiply-accumulates of full training as the paper counts them: twice the forward pass."""
    return 2 * forward_macs(table)


@dataclasses.dataclass(frozen=True)
class PaperAccounting:
    """float32, batch 1, kernels only: memory = copies * 4 B * trained weights + 4 B * peak forward activation.

    peak = max over layers of (input + output / groups) elements: a depthwise layer works in place.
    The four copies are the weight, its gradient and Adam's two moments (reconstructed from the paper's tables).
    """

    copies: int = 4

    def memory_bytes(self, table: LayerTable, choice: dict[str, int]) -> int:
        return 4 * self.copies * num_trained_weights(table, choice) + 4 * peak_activation(table)


def peak_activation(table: LayerTable) -> int:
    """max over layers of (input + output / groups), in elements."""
    return max(
        input_size(table, row) + _size(row.output_shape) // (row.num_channels if row.kind == "depthwise" else 1)
        for row in table.weighted
    )


def input_size(table: LayerTable, row: LayerInfo) -> int:
    """Elements of a layer's input; of a padded one without its padding, which needs no memory."""
    source = table[row.inputs[0]]
    while source.kind == "pad":
        source = table[source.inputs[0]]
    return _size(source.output_shape)


def _size(shape):
    return math.prod(shape)
