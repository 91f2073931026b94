"""NanoNet: a backbone for glyphs and sketches small enough for a 256 KB microcontroller."""

import os
import pathlib

import keras
import numpy as np

# (name, expansion, output channels, stride) of each inverted bottleneck. At 32x32x1: 3.5 M MACs, 114.6 k kernel weights.
BLOCKS = (
    ("b1", 3, 24, 1),
    ("b2", 3, 32, 2),
    ("b3", 4, 32, 1),
    ("b4", 4, 48, 2),
    ("b5", 4, 48, 1),
    ("b6", 4, 64, 1),
    ("b7", 4, 96, 1),
)
STEM_FILTERS = 16
WEIGHTS_FOLDER = pathlib.Path(__file__).parent / "weights"


def NanoNet(
    input_shape: tuple[int, int, int] = (32, 32, 1),
    *,
    weights: str | os.PathLike | None = "omniglot",
    batch_norm: bool = False,
) -> keras.Model:
    """A small inverted-bottleneck network that ends in a pooled feature vector.

    Blocks as in MobileNetV2 (Sandler et al., CVPR 2018). Layers are called "stem", "b1.pw1", "b1.dw", "b1.pw2", "b1.add",
    ..., "pool"; the ReLU6 after a convolution is a layer "<conv>.relu"; "pw2" and "add" are linear.

    Args:
        input_shape: (height, width, channels). Images are float32 in [0, 1], ink 1 on a background of 0: in int8 that
            is scale 1/255 and zero point -128, so 8-bit pixels are exact and zero padding is background.
        weights: "omniglot" for the ones that come with the package (1 input channel, any height and width), None for
            a random initialisation, or the path of an .npz written by `save_weights`.
        batch_norm: True gives the training form, a BatchNormalization "<conv>.bn" after each convolution, which then
            has no bias; False the canonical form, convolutions with bias.

    Returns:
        A Functional model, float32 (N, height, width, channels) -> float32 (N, 96).

    Raises:
        ValueError: the weights do not fit the model.

    Example:
        >>> NanoNet(weights=None).output_shape
        (None, 96)
    """
    if batch_norm and weights is not None:
        raise ValueError(f"Weights are stored with BatchNorm folded: batch_norm=True needs weights=None. Received: {weights!r}")
    inputs = keras.Input(input_shape, name="image")
    x = _convolution(inputs, keras.layers.Conv2D(STEM_FILTERS, 3, strides=2, **_options("stem", batch_norm)))
    for name, expansion, filters, stride in BLOCKS:
        x = _block(x, name, expansion=expansion, filters=filters, stride=stride, batch_norm=batch_norm)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="pool")(x), name="nanonet")
    if weights is not None:
        load_weights(model, WEIGHTS_FOLDER / "nano_omniglot.npz" if weights == "omniglot" else weights)
    return model


def save_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Write kernels and biases of a NanoNet without BatchNorm as float16 arrays "<layer>/kernel" and "<layer>/bias".

    Args:
        model: NanoNet(batch_norm=False), or a folded one. The inverse is `load_weights`, up to rounding to float16.
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


def _block(x, name, *, expansion, filters, stride, batch_norm):
    """pw1 (expand) -> dw -> pw2 (project), with a residual where the shapes allow."""
    channels = x.shape[-1]
    y = _convolution(x, keras.layers.Conv2D(expansion * channels, 1, **_options(f"{name}.pw1", batch_norm)))
    y = _convolution(y, keras.layers.DepthwiseConv2D(3, strides=stride, **_options(f"{name}.dw", batch_norm)))
    y = _convolution(y, keras.layers.Conv2D(filters, 1, **_options(f"{name}.pw2", batch_norm)), linear=True)
    return keras.layers.Add(name=f"{name}.add")([x, y]) if stride == 1 and filters == channels else y


def _convolution(x, layer, *, linear=False):
    x = layer(x)
    if not layer.use_bias:
        x = keras.layers.BatchNormalization(momentum=0.95, epsilon=1e-3, name=f"{layer.name}.bn")(x)
    return x if linear else keras.layers.ReLU(6.0, name=f"{layer.name}.relu")(x)


def _options(name, batch_norm):
    return {"name": name, "padding": "same", "use_bias": not batch_norm}
