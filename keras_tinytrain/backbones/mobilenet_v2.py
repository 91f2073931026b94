"""MobileNetV2 in canonical form, by default of width 0.35."""

import os

import keras

from keras_tinytrain.backbones.imagenet_network import Block, imagenet_network
from keras_tinytrain.backbones.imagenet_weights import load_pretrained

# (expansion, output channels at width 1, repeats, stride of the first), Sandler et al., CVPR 2018, table 2.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
MIX_FILTERS = 1280


def MobileNetV2(
    input_shape: tuple[int, int, int] = (128, 128, 3),
    *,
    width: float = 0.35,
    weights: str | os.PathLike | None = "imagenet",
    mix: bool = False,
    include_top: bool = False,
) -> keras.Model:
    """MobileNetV2. At width 0.35 and 128x128x3: 16.6 M MACs, 238,688 kernel weights; with `mix` 17.4 M and 288,864.

    Layer names and padding: see `imagenet_network`. Images: see `preprocess_input`.

    Args:
        input_shape: (height, width, channels).
        width: channels relative to the original network.
        weights: "imagenet" (width 0.35 only), None for a random initialisation, or the path of a file; see `load_pretrained`.
        mix: True adds the 1x1 layer after the last block that the paper's accounting counts. The public weights have none, so
            it is then left as it was initialised.
        include_top: True adds the ImageNet classifier, whose outputs are 1000 logits.

    Returns:
        A Functional model, float32 (N, height, width, 3) in [-1, 1] -> features: (N, 112), or (N, 448) with `mix`.

    Example:
        >>> MobileNetV2(weights=None, mix=True).output_shape
        (None, 448)
    """
    blocks = tuple(
        Block(expansion, 3, nearest_multiple_of_8(width * filters), stride if repeat == 0 else 1)
        for expansion, filters, repeats, stride in STAGES
        for repeat in range(repeats)
    )
    model = imagenet_network(
        input_shape,
        stem_filters=nearest_multiple_of_8(width * 32),
        blocks=blocks,
        mix_filters=nearest_multiple_of_8(width * MIX_FILTERS) if mix else None,
        classes=1000 if include_top else None,
        name="mobilenet_v2",
    )
    return load_pretrained(model, "mbv2-w0.35", weights)


def nearest_multiple_of_8(channels: float) -> int:
    """At least 8, and not below 0.9 of `channels`; as in the original code."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
