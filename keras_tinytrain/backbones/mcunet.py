"""MCUNet-5fps: the backbone that was searched for a microcontroller with 320 KB of SRAM."""

import os

import keras

from keras_tinytrain.backbones.imagenet_network import Block, imagenet_network
from keras_tinytrain.backbones.imagenet_weights import load_pretrained

BLOCKS = (
    Block(1, 3, 8, 1),
    Block(4, 3, 16, 2),
    Block(3, 3, 16, 1),
    Block(3, 7, 24, 2),
    Block(5, 3, 24, 1),
    Block(5, 3, 40, 2),
    Block(4, 7, 40, 1),
    Block(4, 5, 48, 1),
    Block(3, 3, 48, 1),
    Block(4, 3, 48, 1),
    Block(5, 7, 96, 2),
    Block(4, 5, 96, 1),
    Block(4, 5, 96, 1),
    Block(6, 3, 160, 1),
)


def MCUNet(
    input_shape: tuple[int, int, int] = (128, 128, 3),
    *,
    weights: str | os.PathLike | None = "imagenet",
    include_top: bool = False,
) -> keras.Model:
    """MCUNet-5fps (Lin et al., NeurIPS 2020 and 2022). At 128x128x3: 22.5 M MACs, 463,216 kernel weights.

    Layer names and padding: see `imagenet_network`. Images: see `preprocess_input`.

    Args:
        input_shape: (height, width, channels).
        weights: "imagenet", None for a random initialisation, or the path of a file; see `load_pretrained`.
        include_top: True adds the ImageNet classifier, whose outputs are 1000 logits.

    Returns:
        A Functional model, float32 (N, height, width, 3) in [-1, 1] -> (N, 160) features.

    Example:
        >>> MCUNet(weights=None).output_shape
        (None, 160)
    """
    model = imagenet_network(input_shape, stem_filters=16, blocks=BLOCKS, classes=1000 if include_top else None, name="mcunet")
    return load_pretrained(model, "mcunet-5fps", weights)
