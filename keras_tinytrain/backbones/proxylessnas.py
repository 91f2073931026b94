"""ProxylessNASNet (mobile) in canonical form, by default of width 0.3."""

import math
import os

import keras

from keras_tinytrain.backbones.imagenet_network import Block, imagenet_network
from keras_tinytrain.backbones.imagenet_weights import load_pretrained

# (output channels at width 1, stride of the first block, (expansion, kernel) of each block), Cai et al., ICLR 2019.
STAGES = (
    (16, 1, ((1, 3),)),
    (32, 2, ((3, 5), (3, 3))),
    (40, 2, ((3, 7), (3, 3), (3, 5), (3, 5))),
    (80, 2, ((6, 7), (3, 5), (3, 5), (3, 5))),
    (96, 1, ((6, 5), (3, 5), (3, 5), (3, 5))),
    (192, 2, ((6, 7), (6, 7), (3, 7), (3, 7))),
    (320, 1, ((6, 7),)),
)
MIX_FILTERS = 1280


def ProxylessNASNet(
    input_shape: tuple[int, int, int] = (128, 128, 3),
    *,
    width: float = 0.3,
    weights: str | os.PathLike | None = "imagenet",
    mix: bool = False,
    include_top: bool = False,
) -> keras.Model:
    """ProxylessNASNet. At width 0.3 and 128x128x3: 18.6 M MACs, 320,816 kernel weights; with `mix` 19.2 M and 357,680.

    Layer names and padding: see `imagenet_network`. Images: see `preprocess_input`.

    Args:
        width: channels relative to the original network, rounded up to a multiple of 8.
        input_shape, weights, mix, include_top: as of `MobileNetV2`; "imagenet" is of width 0.3.

    Returns:
        A Functional model, float32 (N, height, width, 3) in [-1, 1] -> features: (N, 96), or (N, 384) with `mix`.

    Example:
        >>> ProxylessNASNet(weights=None).output_shape
        (None, 96)
    """
    blocks = tuple(
        Block(expansion, kernel, _round_up(width * filters), stride if repeat == 0 else 1)
        for filters, stride, repeats in STAGES
        for repeat, (expansion, kernel) in enumerate(repeats)
    )
    model = imagenet_network(
        input_shape,
        stem_filters=_round_up(width * 32),
        blocks=blocks,
        mix_filters=_round_up(width * MIX_FILTERS) if mix else None,
        classes=1000 if include_top else None,
        name="proxylessnas",
    )
    return load_pretrained(model, "proxyless-w0.3", weights)


def _round_up(channels):
    return 8 * math.ceil(round(channels / 8, 6))
