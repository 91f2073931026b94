"""The shape that NanoNet and GestureNet share: a stem, inverted bottlenecks, pooling; with BatchNorm or folded."""

from collections.abc import Callable, Sequence

import keras

from keras_tinytrain.model.fold import fold_batch_norm


def small_network(
    inputs: keras.KerasTensor,
    name: str,
    *,
    stem_filters: int,
    stem_kernel: int | tuple[int, int],
    stem_strides: int,
    kernel: int | tuple[int, int],
    blocks: Sequence[tuple[str, int, int, int]],
    batch_norm: bool,
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


def folded_network(model: keras.Model, build: Callable[..., keras.Model]) -> keras.Model:
    """The canonical form of a training form, with the same features to 1e-5 relative.

    Args:
        model: of build(batch_norm=True).
        build: NanoNet, GestureNet or the like.

    Returns:
        build(batch_norm=False).
    """
    folded = build(model.input_shape[1:], weights=None)
    layers = {layer.name: layer for layer in fold_batch_norm(model).layers}
    for layer in folded.layers:
        layer.set_weights(layers[layer.name].get_weights() if layer.weights else [])
    return folded


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
