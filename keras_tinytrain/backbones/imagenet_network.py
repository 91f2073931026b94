"""The shape that the ImageNet backbones share: a stem, inverted-bottleneck blocks, global average pooling."""

import dataclasses

import keras


@dataclasses.dataclass(frozen=True)
class Block:
    """One inverted bottleneck (Sandler et al., CVPR 2018): expand 1x1, depthwise, project 1x1.

    Args:
        expansion: widening of the 1x1 expansion; 1 leaves it out.
        kernel: side of the depthwise kernel.
        filters: output channels. Where they equal the input's and the stride is 1, the input is added.
        stride: of the depthwise layer.
    """

    expansion: int
    kernel: int
    filters: int
    stride: int


def imagenet_network(
    input_shape: tuple[int, int, int],
    *,
    stem_filters: int,
    blocks: tuple[Block, ...],
    mix_filters: int | None = None,
    classes: int | None = None,
    name: str,
) -> keras.Model:
    """A backbone in canonical form: convolutions with bias, activations and padding as layers of their own.

    Layers: "stem", "b0.dw", "b0.pw2", "b1.pw1", "b1.dw", "b1.pw2", "b1.add", ..., "mix", "pool", "classifier"; the ReLU6 after
    a convolution is "<conv>.relu", the padding before it "<conv>.pad". "pw2" and "add" are linear. Padding is symmetric,
    (k-1)//2 on all sides, which at stride 2 is not Keras' "same".

    Args:
        input_shape: (height, width, channels).
        stem_filters: output channels of the 3x3 convolution of stride 2 that comes first.
        blocks: the inverted bottlenecks after it.
        mix_filters: output channels of a 1x1 convolution after the last block; None leaves it out.
        classes: outputs of a dense layer after the pooling; None leaves it out.
        name: of the model.

    Returns:
        A Functional model, float32 (N, height, width, channels) -> (N, features), or (N, classes) logits.
    """
    image = keras.Input(input_shape, name="image")
    x = _convolution(image, keras.layers.Conv2D(stem_filters, 3, strides=2, name="stem"))
    for index, block in enumerate(blocks):
        x = _block(x, block, f"b{index}")
    if mix_filters:
        x = _convolution(x, keras.layers.Conv2D(mix_filters, 1, name="mix"))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    if classes:
        x = keras.layers.Dense(classes, name="classifier")(x)
    return keras.Model(image, x, name=name)


def _block(x, block, name):
    channels = x.shape[-1]
    y = x
    if block.expansion != 1:
        y = _convolution(y, keras.layers.Conv2D(block.expansion * channels, 1, name=f"{name}.pw1"))
    padding = "same" if block.stride == 1 else "valid"  # symmetric either way, see _convolution
    depthwise = keras.layers.DepthwiseConv2D(block.kernel, strides=block.stride, padding=padding, name=f"{name}.dw")
    y = _convolution(y, depthwise)
    y = keras.layers.Conv2D(block.filters, 1, name=f"{name}.pw2")(y)
    if block.stride == 1 and block.filters == channels:
        y = keras.layers.Add(name=f"{name}.add")([x, y])
    return y


def _convolution(x, layer):
    """Symmetric padding where `layer` has none of its own, `layer`, ReLU6."""
    margin = (layer.kernel_size[0] - 1) // 2
    if margin and layer.padding == "valid":
        x = keras.layers.ZeroPadding2D(margin, name=f"{layer.name}.pad")(x)
    return keras.layers.ReLU(6.0, name=f"{layer.name}.relu")(layer(x))
