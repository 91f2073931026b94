"""GestureNet: a backbone for a second of motion, as the sensor of a Nano 33 BLE Sense records it."""

import os

import keras

from keras_tinytrain.backbones.small_network import small_network
from keras_tinytrain.backbones.small_weights import WEIGHTS_FOLDER, check_weights, load_weights

WINDOW = (119, 1, 6)  # samples at 119 Hz, 1, accelerometer x y z in g and gyroscope x y z in units of 250 degrees a second
# (name, expansion, output channels, stride in time) of each inverted bottleneck: 1.2 M MACs, 54.1 k kernel weights.
BLOCKS = (
    ("b1", 2, 24, 1),
    ("b2", 3, 32, 2),
    ("b3", 3, 32, 1),
    ("b4", 3, 48, 2),
    ("b5", 3, 48, 1),
    ("b6", 3, 64, 1),
)
STEM_FILTERS = 24


def GestureNet(
    input_shape: tuple[int, int, int] = WINDOW, *, weights: str | os.PathLike | None = "invented", batch_norm: bool = False
) -> keras.Model:
    """A small inverted-bottleneck network over time that ends in a pooled feature vector.

    Its blocks and the names of its layers are those of `small_network`; a window is an image of width 1.

    Args:
        input_shape: (time steps, 1, 6). Windows are float32, see `WINDOW` and `data.load_npz`.
        weights: "invented" for the ones that come with the package, learned on invented motions (any number of time
            steps; see `metatrain.invented_motions`), None for a random initialisation, or the path of an .npz written by
            `small_weights.save_weights`.
        batch_norm: True gives the training form, see `small_network`.

    Returns:
        A Functional model, float32 (N, *input_shape) -> float32 (N, 64).

    Raises:
        ValueError: the weights do not fit the model.

    Example:
        >>> GestureNet(weights=None).output_shape
        (None, 64)
    """
    check_weights(weights, batch_norm)
    model = small_network(
        keras.Input(input_shape, name="motion"),
        "gesturenet",
        stem_filters=STEM_FILTERS,
        stem_kernel=(7, 1),
        stem_strides=2,
        kernel=(5, 1),
        blocks=BLOCKS,
        batch_norm=batch_norm,
    )
    if weights is not None:
        load_weights(model, WEIGHTS_FOLDER / "gesture_invented.npz" if weights == "invented" else weights)
    return model
