"""The channels of a Keras model as records of a delta: read, written, compared; and the hash that names the model."""

import hashlib
from collections.abc import Sequence

import keras
import numpy as np

from keras_tinytrain.delta._records import ChannelValues
from keras_tinytrain.model.channels import kernel_channel_axis
from keras_tinytrain.model.graph import find_layer
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
    and bfloat16 exactly.
    """
    records = []
    for layer_plan in plan.layers:
        layer = find_layer(model, layer_plan.name)
        channels = list(layer_plan.channels)
        kernel = np.moveaxis(_floats(layer.kernel), kernel_channel_axis(layer), 0)
        biases = _floats(layer.bias)[channels].copy() if layer.use_bias else None
        records.append(
            ChannelValues(layer_plan.name, tuple(channels), kernel[channels].reshape(len(channels), -1).copy(), biases)
        )
    return tuple(records)


def write_channels(model: keras.Model, records: Sequence[ChannelValues]) -> None:
    """Assign the values of `records`. Raises ValueError for int8 values, which only a device can apply."""
    for record in records:
        if not np.issubdtype(record.values.dtype, np.floating):
            raise ValueError(
                f"Layer '{record.name}' holds {record.values.dtype} values of a device; only the device can apply them."
            )
        layer = find_layer(model, record.name)
        channels = list(record.channels)
        whole = layer.kernel.numpy().copy()
        kernel = np.moveaxis(whole, kernel_channel_axis(layer), 0)
        kernel[channels] = record.values.reshape(len(channels), *kernel.shape[1:])
        layer.kernel.assign(whole)
        if record.biases is not None:
            bias = layer.bias.numpy().copy()
            bias[channels] = record.biases
            layer.bias.assign(bias)


def _floats(variable):
    values = variable.numpy()
    return values if values.dtype == np.float64 else values.astype(np.float32)


def equal_values(records: Sequence[ChannelValues], others: Sequence[ChannelValues]) -> bool:
    """Whether records of the same channels hold the same values, bit for bit."""
    return all(_equal(a.values, b.values) and _equal(a.biases, b.biases) for a, b in zip(records, others, strict=True))


def _equal(a, b):
    return a is b or np.array_equal(a, b)
