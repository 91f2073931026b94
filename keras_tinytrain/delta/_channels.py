"""The channels of a Keras model as records of a delta: read, written, compared; and the hash that names the model."""

import hashlib
from collections.abc import Sequence

import keras
import numpy as np

from keras_tinytrain.delta._records import ChannelValues
from keras_tinytrain.model.channels import find_weights
from keras_tinytrain.model.private_keras import all_layers, own_weights
from keras_tinytrain.plan import LayerPlan, Plan


def model_hash(model: keras.Model) -> bytes:
    """SHA-256 over the weights of a model: shapes and values, in order; weights marked `learned_state` are left out."""
    digest = hashlib.sha256()
    for layer in all_layers(model):
        if isinstance(layer, keras.Model) or getattr(layer, "learned_state", False):
            continue
        for weight in own_weights(layer):
            value = np.ascontiguousarray(weight.numpy())
            digest.update(repr((value.shape, value.dtype.str)).encode())
            digest.update(value.tobytes())
    return digest.digest()


def with_learned_state(model: keras.Model, plan: Plan) -> Plan:
    """`plan` and all channels of the layers marked `learned_state`, such as prototypes."""
    learned = [layer for layer in all_layers(model) if getattr(layer, "learned_state", False)]
    return Plan(plan.layers + tuple(LayerPlan(layer.name, tuple(range(layer.kernel.shape[-1]))) for layer in learned))


def read_channels(model: keras.Model, plan: Plan) -> tuple[ChannelValues, ...]:
    """The present values of the channels that `plan` names: float64 ones of a float64 layer, else float32, which holds float16
    and bfloat16 exactly. Raises ValueError where the model has no such layer or channel.
    """
    records = []
    for layer_plan in plan.layers:
        weights = find_weights(model, layer_plan.name)
        (_, kernel), channels = _kernel(weights), list(layer_plan.channels)
        _check_range(weights, channels, len(kernel))
        biases = _floats(weights.bias.numpy()[channels]) if weights.has_bias else None
        values = _floats(kernel[channels].reshape(len(channels), -1))
        records.append(ChannelValues(layer_plan.name, tuple(channels), values, biases))
    return tuple(records)


def write_channels(model: keras.Model, records: Sequence[ChannelValues]) -> None:
    """Assign the values of `records`: all of them or, whatever goes wrong, none.

    Raises:
        ValueError: a record does not fit the model; it is named. Or it holds int8 values, which only a device can apply.
    """
    if len({record.name for record in records}) < len(records):
        raise ValueError("This delta has two records of one layer, which this library never writes.")
    new = [pair for record in records for pair in _assignments(find_weights(model, record.name), record)]
    old = [variable.numpy() for variable, _ in new]
    try:
        for variable, value in new:
            variable.assign(value)
    except BaseException:
        for (variable, _), value in zip(new, old, strict=True):
            variable.assign(value)
        raise


def require_finite(records: Sequence[ChannelValues]) -> None:
    """Raise ValueError for a record with NaN or infinity. A device refuses it too."""
    for record in records:
        if not all(np.isfinite(part).all() for part in (record.values, record.biases) if part is not None):
            raise ValueError(f"The values of layer '{record.name}' are NaN or infinite: the training broke down. Train again.")


def _floats(values):
    return values if values.dtype == np.float64 else values.astype(np.float32)


def equal_values(records: Sequence[ChannelValues], others: Sequence[ChannelValues]) -> bool:
    """Whether records of the same channels hold the same values, bit for bit: NaN equals itself."""
    return all(_equal(a.values, b.values) and _equal(a.biases, b.biases) for a, b in zip(records, others, strict=True))


def _assignments(weights, record):
    """[(variable, its new value)] of a record; raises ValueError where it does not fit the layer."""
    if not np.issubdtype(record.values.dtype, np.floating):
        raise ValueError(
            f"Layer '{record.name}' holds {record.values.dtype} values of a device; only the device can apply them."
        )
    (whole, kernel), channels = _kernel(weights), list(record.channels)
    _check_range(weights, channels, len(kernel))
    expected = len(channels), int(np.prod(kernel.shape[1:]))
    if record.values.shape != expected or (record.biases is None) == weights.has_bias:
        biases = "no biases" if record.biases is None else "biases"
        raise ValueError(
            f"Layer '{weights.name}' takes values of shape {expected} {'with' if weights.has_bias else 'without'} biases. "
            f"Received: {record.values.shape} and {biases}"
        )
    kernel[channels] = record.values.reshape(len(channels), *kernel.shape[1:])
    if record.biases is None:
        return [(weights.kernel, whole)]
    bias = weights.bias.numpy().copy()
    bias[channels] = record.biases
    return [(weights.kernel, whole), (weights.bias, bias)]


def _kernel(weights):
    """(a copy of the layer's kernel, a view of it with the axis of its output channels in front)."""
    whole = weights.kernel.numpy().copy()
    return whole, np.moveaxis(whole, weights.axis, 0)


def _check_range(weights, channels, num_channels):
    if channels != sorted({*channels}) or (channels and not 0 <= channels[0] <= channels[-1] < num_channels):
        raise ValueError(
            f"Layer '{weights.name}' has {num_channels} channels; expected some of them, ascending, each once. Received: {channels[-5:]}"
        )


def _equal(a, b):
    return a is b or (a is not None and b is not None and a.shape == b.shape and a.tobytes() == b.tobytes())
