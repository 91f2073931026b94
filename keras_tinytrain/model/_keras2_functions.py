"""TensorFlow functions that a Keras 2 model calls between its layers (TFOpLambda, SlicingOpLambda), as `keras.ops`."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

# By TensorFlow's name, with its argument names; `keras.applications` and arithmetic on tensors come to these.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "__operators__.add": lambda x, y: ops.add(x, y),
    "cast": lambda x, dtype: ops.cast(x, _dtype_name(dtype)),
    "clip_by_value": lambda t, clip_value_min, clip_value_max: ops.clip(t, clip_value_min, clip_value_max),
    "concat": lambda values, axis: ops.concatenate(values, axis=axis),
    "expand_dims": lambda input, axis: ops.expand_dims(input, axis),
    "identity": lambda input: input,
    "math.abs": ops.abs,
    "math.add": lambda x, y: ops.add(x, y),
    "math.divide": lambda x, y: ops.true_divide(x, y),
    "math.exp": ops.exp,
    "math.l2_normalize": lambda x, axis=-1, epsilon=1e-12: ops.normalize(x, axis=axis, epsilon=epsilon),
    "math.log": ops.log,
    "math.maximum": lambda x, y: ops.maximum(x, y),
    "math.minimum": lambda x, y: ops.minimum(x, y),
    "math.multiply": lambda x, y: ops.multiply(x, y),
    "math.negative": ops.negative,
    "math.pow": lambda x, y: ops.power(x, y),
    "math.reduce_max": lambda x, axis=None, keepdims=False: ops.max(x, axis=axis, keepdims=keepdims),
    "math.reduce_mean": lambda x, axis=None, keepdims=False: ops.mean(x, axis=axis, keepdims=keepdims),
    "math.reduce_sum": lambda x, axis=None, keepdims=False: ops.sum(x, axis=axis, keepdims=keepdims),
    "math.sigmoid": ops.sigmoid,
    "math.sqrt": ops.sqrt,
    "math.square": ops.square,
    "math.subtract": lambda x, y: ops.subtract(x, y),
    "math.tanh": ops.tanh,
    "math.truediv": lambda x, y: ops.true_divide(x, y),
    "nn.bias_add": lambda value, bias: ops.add(value, bias),
    "nn.elu": ops.elu,
    "nn.gelu": lambda features, approximate=False: ops.gelu(features, approximate=approximate),
    "nn.leaky_relu": lambda features, alpha=0.2: ops.leaky_relu(features, negative_slope=alpha),
    "nn.relu": ops.relu,
    "nn.relu6": ops.relu6,
    "nn.silu": ops.silu,
    "nn.softmax": lambda logits, axis=-1: ops.softmax(logits, axis=axis),
    "nn.swish": ops.silu,
    "reshape": lambda tensor, shape: ops.reshape(tensor, shape),
    "squeeze": lambda input, axis=None: ops.squeeze(input, axis=axis),
    "stack": lambda values, axis=0: ops.stack(values, axis=axis),
    "transpose": lambda a, perm=None: ops.transpose(a, axes=perm),
}
_FUNCTIONS["nn.sigmoid"], _FUNCTIONS["nn.tanh"] = _FUNCTIONS["math.sigmoid"], _FUNCTIONS["math.tanh"]
_FUNCTIONS["compat.v1.transpose"], _FUNCTIONS["nn.l2_normalize"] = _FUNCTIONS["transpose"], _FUNCTIONS["math.l2_normalize"]
_IGNORED = ("name", "data_format")  # the name of the operation; data_format of bias_add, where channels are last


def function_of(layer_config: dict) -> Callable[..., keras.KerasTensor]:
    """What a TFOpLambda or SlicingOpLambda of Keras 2 computes, called as f(first argument, **other arguments).

    Raises:
        ValueError: the function is not one of those known here.
    """
    config = layer_config["config"]
    name = config.get("function", "").removeprefix("tf.")
    if name == "__operators__.getitem":
        return lambda tensor, slice_spec: tensor[_indices(slice_spec)]
    if name not in _FUNCTIONS:
        raise ValueError(
            f"'{config.get('name')}' calls the function tf.{name} on a tensor, which has no counterpart here. Build that step "
            "from a layer, such as Rescaling, Activation or Reshape, and save the model again."
        )

    def call(first, **arguments):
        given = {key: _operand(key, value) for key, value in arguments.items() if key not in _IGNORED and value is not None}
        return _FUNCTIONS[name](first, **given)

    return call


def _operand(key, value):
    """A constant to compute with, which a configuration holds as a list, as an array; other arguments as they are."""
    return np.asarray(value, np.float32) if key in ("x", "y", "bias") and isinstance(value, (list, tuple)) else value


def _indices(spec):
    """A slice_spec of a configuration as what stands between [ and ]."""
    if isinstance(spec, dict) and "start" in spec:
        return slice(spec["start"], spec["stop"], spec["step"])
    if isinstance(spec, dict):
        return Ellipsis  # {"class_name": "__ellipsis__"}, as JSON has it
    return tuple(map(_indices, spec)) if isinstance(spec, (list, tuple)) else spec


def _dtype_name(dtype):
    return getattr(dtype, "name", dtype) if not isinstance(dtype, dict) else dtype["config"]
