"""What NanoNet and GestureNet are made of, inverted bottlenecks from a stem to a pooled feature vector; their weights."""

import os
import pathlib

import keras
import numpy as np

WEIGHTS_FOLDER = pathlib.Path(__file__).parent / "weights"  # those that come with the package


def bottleneck_network(
    inputs, name: str, *, stem_filters: int, stem_kernel, stem_strides, kernel, blocks, batch_norm: bool
) -> keras.Model:
    """A Functional model, images -> pooled features; blocks as in MobileNetV2 (Sandler et al., CVPR 2018).

    Layers are called "stem", "b1.pw1", "b1.dw", "b1.pw2", "b1.add", ..., "pool"; the ReLU6 after a convolution is a layer
    "<conv>.relu"; "pw2" and "add" are linear.

    Args:
        inputs: a Keras input (N, height, width, channels).
        name: of the model.
        stem_filters, stem_kernel, stem_strides: of the first convolution.
        kernel: of the depthwise convolutions.
        blocks: (name, expansion, output channels, strides) of each inverted bottleneck.
        batch_norm: True gives the training form, a BatchNormalization "<conv>.bn" after each convolution, which then has no
            bias; False the canonical form, convolutions with bias.
    """
    stem = keras.layers.Conv2D(stem_filters, stem_kernel, strides=stem_strides, **_options("stem", batch_norm))
    x = _convolution(inputs, stem)
    for block, expansion, filters, strides in blocks:
        x = _block(x, block, kernel, expansion=expansion, filters=filters, strides=strides, batch_norm=batch_norm)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="pool")(x), name=name)


def check_weights(weights, batch_norm: bool) -> None:
    """Raise ValueError where stored weights are asked for in the training form, which they do not fit."""
    if batch_norm and weights is not None:
        raise ValueError(f"Weights are stored with BatchNorm folded: batch_norm=True needs weights=None. Received: {weights!r}")


def save_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Write kernels and biases of a model without BatchNorm as float16 arrays "<layer>/kernel" and "<layer>/bias".

    Args:
        model: of `bottleneck_network(batch_norm=False)`, or a folded one. The inverse is `load_weights`, up to rounding to
            float16.
        path: the .npz to write.
    """
    arrays = {f"{layer.name}/{_role(v)}": np.asarray(v, np.float16) for layer in model.layers for v in layer.weights}
    np.savez_compressed(path, **arrays)


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Set kernels and biases by layer name from an .npz of `save_weights`; float16 values are loaded as float32.

    Raises:
        ValueError: the file lacks an array, or one has another shape than the model's.
        FileNotFoundError: there is no such file.
    """
    with np.load(path, allow_pickle=False) as arrays:
        for layer in model.layers:
            for variable in layer.weights:
                key = f"{layer.name}/{_role(variable)}"
                if key not in arrays:
                    raise ValueError(f"{path} has no array '{key}'. Is it a file written by save_weights?")
                if arrays[key].shape != variable.shape:
                    raise ValueError(f"'{key}' in {path} has shape {arrays[key].shape}, the model needs {variable.shape}.")
                variable.assign(arrays[key].astype(np.float32))


def _role(variable):
    return variable.path.rsplit("/", 1)[-1]


def _block(x, name, kernel, *, expansion, filters, strides, batch_norm):
    """pw1 (expand) -> dw -> pw2 (project), with a residual where the shapes allow."""
    y = _convolution(x, keras.layers.Conv2D(expansion * x.shape[-1], 1, **_options(f"{name}.pw1", batch_norm)))
    y = _convolution(y, keras.layers.DepthwiseConv2D(kernel, strides=strides, **_options(f"{name}.dw", batch_norm)))
    y = _convolution(y, keras.layers.Conv2D(filters, 1, **_options(f"{name}.pw2", batch_norm)), linear=True)
    return keras.layers.Add(name=f"{name}.add")([x, y]) if strides == 1 and filters == x.shape[-1] else y


def _convolution(x, layer, *, linear=False):
    x = layer(x)
    if not layer.use_bias:
        x = keras.layers.BatchNormalization(momentum=0.95, epsilon=1e-3, name=f"{layer.name}.bn")(x)
    return x if linear else keras.layers.ReLU(6.0, name=f"{layer.name}.relu")(x)


def _options(name, batch_norm):
    return {"name": name, "padding": "same", "use_bias": not batch_norm}
