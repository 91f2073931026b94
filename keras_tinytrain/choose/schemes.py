"""SparseUpdate's fifteen static schemes (MCUNetV3, Lin et al., NeurIPS 2022): found offline, the same for every task."""

import dataclasses
import math

from keras_tinytrain.choose import paper_cost
from keras_tinytrain.model.layers import LayerTable
from keras_tinytrain.plan import LayerPlan, Plan


@dataclasses.dataclass(frozen=True)
class Scheme:
    """Which part of which convolution is trained.

    Args:
        num_biases: the biases of the last so many convolutions are trained, those below among them.
        ratios: {index of the convolution, from 0: fraction of its INPUT channels whose weights are trained}.
    """

    num_biases: int
    ratios: dict[int, float]


_MBV2_123 = {27: 1, 30: 1, 33: 1, 36: 1, 39: 1, 42: 0.5, 45: 1, 48: 1}
_PROXYLESS_120 = {36: 1, 39: 1, 42: 1, 45: 1, 48: 0.5, 51: 1, 54: 1, 57: 1}

# {model name: {name, after the KB that it takes: scheme}}
SCHEMES = {
    "mcunet": {
        "49kb": Scheme(20, {23: 0, 24: 0.25, 27: 0.5, 30: 0.5, 33: 0, 39: 0}),
        "74kb": Scheme(21, {21: 1, 23: 0, 24: 1, 26: 0, 27: 0.5, 30: 1}),
        "99kb": Scheme(22, {21: 1, 24: 1, 27: 1, 30: 1, 36: 0.125, 39: 0.25}),
        "124kb": Scheme(24, {21: 0.25, 24: 1, 27: 1, 30: 1, 33: 0.5, 39: 0.5}),
        "148kb": Scheme(23, {21: 1, 24: 1, 27: 1, 30: 1, 36: 1, 39: 0.5}),
    },
    "mobilenet_v2": {
        "49kb": Scheme(16, {36: 1, 39: 1, 40: 0, 41: 0.25, 42: 0.125, 45: 0.125, 48: 0.125, 49: 0.125}),
        "73kb": Scheme(20, {32: 0.125, 33: 0.5, 36: 0.5, 39: 1, 41: 0.25, 42: 0.125, 45: 0.125, 48: 1}),
        "99kb": Scheme(25, {**_MBV2_123, 42: 0.125, 45: 0.5}),
        "123kb": Scheme(31, _MBV2_123),
        "138kb": Scheme(34, {**_MBV2_123, 42: 1}),
    },
    "proxylessnas": {
        "49kb": Scheme(21, {39: 0.25, 42: 1, 44: 0, 45: 1, 50: 0, 51: 0.125, 54: 0.25, 57: 0.25}),
        "74kb": Scheme(28, {33: 0.5, 36: 0.25, 39: 1, 42: 1, 45: 1, 51: 0.5, 54: 0.25, 57: 0.5}),
        "98kb": Scheme(25, {36: 1, 39: 0.5, 42: 1, 45: 1, 48: 0.25, 51: 0.5, 54: 1, 57: 1}),
        "120kb": Scheme(32, _PROXYLESS_120),
        "148kb": Scheme(45, {**_PROXYLESS_120, 48: 1}),
    },
}


def find_scheme(table: LayerTable, name: str) -> Scheme:
    """The scheme `name` of the backbone that `table` describes. Raises ValueError where there is none."""
    schemes = SCHEMES.get(table.model_name)
    if schemes is None:
        raise ValueError(f"SparseUpdate has schemes for {sorted(SCHEMES)}. Received a model called '{table.model_name}'.")
    if name not in schemes:
        raise ValueError(f"'{table.model_name}' has schemes {list(schemes)}. Received: {name!r}")
    return schemes[name]


def scheme_plan(table: LayerTable, name: str) -> Plan:
    """The scheme as a plan: of each layer the first r * C output channels, where the original trains input channels.

    Trained weights and multiply-accumulates are the same; biases are trained with their channels only.
    """
    rows, scheme = _convolutions(table), find_scheme(table, name)
    counts = {rows[index].name: round(ratio * rows[index].num_channels) for index, ratio in scheme.ratios.items()}
    layers = tuple(LayerPlan(name, tuple(range(count))) for name, count in counts.items() if count)
    return Plan(layers, strategy=f"sparse_update {name}")


def scheme_weights(table: LayerTable, scheme: Scheme) -> int:
    """Kernel elements that are trained: those of the first r * C input channels."""
    chosen = [(_convolutions(table)[index], ratio) for index, ratio in scheme.ratios.items()]
    return sum(_input_channels(row, ratio) * row.num_weights // row.input_shape[-1] for row, ratio in chosen)


def scheme_bytes(table: LayerTable, scheme: Scheme) -> int:
    """The authors' own count of extra memory at batch 1, after which the schemes are called.

    int8 weights + int32 biases + int8 saved input channels + one bit per output of each layer with a trained bias + the int8
    features before the classifier.
    """
    rows = _convolutions(table)
    biased = rows[-scheme.num_biases :]
    saved = sum(
        paper_cost.input_size(table, rows[i]) // rows[i].input_shape[-1] * _input_channels(rows[i], ratio)
        for i, ratio in scheme.ratios.items()
    )
    masks = sum(math.prod(row.output_shape) for row in biased) // 8
    biases = 4 * sum(row.num_channels for row in biased)
    return scheme_weights(table, scheme) + biases + saved + masks + rows[-1].num_channels


def scheme_macs(table: LayerTable, scheme: Scheme) -> tuple[int, int]:
    """(of weight gradients, of input gradients) on one sample; the latter run down to the lowest trained bias."""
    rows = _convolutions(table)
    weight_gradients = sum(int(rows[i].macs * ratio) for i, ratio in scheme.ratios.items())
    return weight_gradients, sum(row.macs for row in rows[len(rows) - scheme.num_biases + 1 :])


def _convolutions(table):
    """The convolutions of the public networks, which have no mix layer."""
    return [row for row in table.weighted if row.kind != "dense" and row.name != "mix"]


def _input_channels(row, ratio):
    return int(row.input_shape[-1] * ratio)
