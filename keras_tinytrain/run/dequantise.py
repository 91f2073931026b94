"""The inverse of an export: a Keras model with the weights of a bundle's int8 model."""

import keras
import numpy as np

from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.head import head_on_device
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.model.ending import without_ending, without_normalisation
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.plan import Plan

_KERNEL_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def dequantised_model(model: keras.Model, bundle: Bundle) -> keras.Model:
    """`model`, BatchNorm folded, with kernel = scale * int8 and bias = scale * int32 of the bundle that was exported from it.

    It differs from the device only by the rounding of activations to int8.

    Args:
        model: the model that was exported.
        bundle: the result of `export_tflm`.

    Returns:
        A new canonical model. `model` is not changed.

    Raises:
        ValueError: the bundle was exported from another model, or has layers that are split in two. The layer is named.
    """
    parts = [choice["name"] for choice in bundle.manifest["weights_in_ram"] if choice["split"]]
    if parts:
        raise ValueError(
            f"Bundle {bundle.path} holds layers {parts} in two parts: export it again with weights_in_ram='whole'."
        )
    if model.output_shape == (None, 1):
        canonical, _, _ = head_on_device(model, Plan(()), "sigmoid")
    else:
        canonical = without_normalisation(without_ending(fold_batch_norm(model)))
    copy = keras.models.clone_model(canonical)
    copy.set_weights(canonical.get_weights())
    found = _kernels(bundle.frozen) | _kernels(bundle.trainable)
    for layer in (layer for layer in copy.layers if hasattr(layer, "kernel")):
        if layer.name not in found:
            raise ValueError(
                f"Bundle {bundle.path} holds no layer '{layer.name}': it was exported from another model. Pass that model."
            )
        kernel, bias = found[layer.name]
        layer.kernel.assign(_in_keras_layout(kernel, layer))
        if bias is not None:
            layer.bias.assign(bias)
    return copy


def _kernels(model_bytes: bytes | None) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """{Keras layer: (kernel float64, output channels first; bias float64 or None)} of a .tflite file that `convert_int8` named."""
    if model_bytes is None:
        return {}
    model = fb.read_model(model_bytes)
    found: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    for operator in model.subgraphs[0].operators:
        name = fb.operator_name(model, operator)
        if name not in _KERNEL_OPERATORS:
            continue
        kernel = fb.known(model, operator.inputs[1]).astype(np.float64)
        kernel = np.moveaxis(kernel, -1, 0) if name == "DEPTHWISE_CONV_2D" else kernel
        scales = fb.quantisation(model, operator.inputs[1])[0].astype(np.float64)
        (input_scale,) = fb.quantisation(model, operator.inputs[0])[0].astype(np.float64)
        bias = fb.constant(model, operator.inputs[2]) if len(operator.inputs) > 2 else None
        values = kernel * scales.reshape(-1, *[1] * (kernel.ndim - 1)), None if bias is None else bias * scales * input_scale
        found |= dict.fromkeys(fb.tensor_name(model, operator.outputs[0]).split(";"), values)
    return found


def _in_keras_layout(kernel: np.ndarray, layer: keras.layers.Layer) -> np.ndarray:
    """Back from [out][height][width][in]; without the row and column of zeros in which a padding was absorbed."""
    shape = tuple(layer.kernel.shape)
    if isinstance(layer, keras.layers.Dense):
        kernel = kernel.T
    elif isinstance(layer, keras.layers.DepthwiseConv2D):  # from [channels][1][height][width]
        kernel = kernel.transpose(2, 3, 0, 1)[: shape[0], : shape[1]]
    else:
        kernel = kernel.transpose(1, 2, 3, 0)[: shape[0], : shape[1]]
    if kernel.shape != shape:
        raise ValueError(
            f"Layer '{layer.name}' has a kernel {shape}, the bundle's is {kernel.shape}: pass the model that was exported."
        )
    return kernel
