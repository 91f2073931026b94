"""NanoNet: a backbone for glyphs and sketches small enough for a 256 KB microcontroller."""

import os

import keras

from keras_tinytrain.backbones.small_network import small_network
from keras_tinytrain.backbones.small_weights import WEIGHTS_FOLDER, check_weights, load_weights

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


def NanoNet(
    input_shape: tuple[int, int, int] = (32, 32, 1),
    *,
    weights: str | os.PathLike | None = "omniglot",
    batch_norm: bool = False,
) -> keras.Model:
    """A small inverted-bottleneck network that ends in a pooled feature vector.

    Its blocks and the names of its layers are those of `small_network`.

    Args:
        input_shape: (height, width, channels). Images are float32 in [0, 1], ink 1 on a background of 0: in int8 that
            is scale 1/255 and zero point -128, so 8-bit pixels are exact and zero padding is background.
        weights: "omniglot" for the ones that come with the package (1 input channel, any height and width), None for
            a random initialisation, or the path of an .npz written by `small_weights.save_weights`.
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
    check_weights(weights, batch_norm)
    model = small_network(
        keras.Input(input_shape, name="image"),
        "nanonet",
        stem_filters=STEM_FILTERS,
        stem_kernel=3,
        stem_strides=2,
        kernel=3,
        blocks=BLOCKS,
        batch_norm=batch_norm,
    )
    if weights is not None:
        load_weights(model, WEIGHTS_FOLDER / "nano_omniglot.npz" if weights == "omniglot" else weights)
    return model
