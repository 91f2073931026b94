"""Networks with layers or outputs that a device cannot train."""

import keras
from keras import layers


def lstm_keywords():
    """A keyword network of one LSTM, 49 steps of 10 coefficients"""
    return keras.Sequential([keras.Input((49, 10)), layers.LSTM(32), layers.Dense(4, "softmax")])


def gru_keywords():
    """A convolution, then a GRU (Arik et al., 2017), 49 steps of 10 coefficients"""
    return keras.Sequential(
        [
            keras.Input((49, 10)),
            layers.Conv1D(16, 3, strides=2, activation="relu"),
            layers.GRU(32),
            layers.Dense(16, "relu"),
            layers.Dense(4, "softmax"),
        ]
    )


def unet():
    """U-Net (Ronneberger et al., 2015) of two levels: a class for each of 32 x 32 pixels"""
    image = keras.Input((32, 32, 1))
    across = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.MaxPooling2D()(across))
    x = layers.Concatenate()([across, layers.Conv2DTranspose(8, 2, strides=2)(x)])
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    return keras.Model(image, layers.Conv2D(2, 1, activation="softmax")(x), name="unet")


def transformer():
    """One Transformer block (Vaswani et al., 2017) over 32 steps of 6 axes"""
    x = window = keras.Input((32, 6))
    x = layers.Dense(16)(x)
    x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 8)(x, x)]))
    y = layers.Dense(16)(layers.Dense(32, "gelu")(x))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(layers.Add()([x, y])))
    return keras.Model(window, layers.Dense(4, "softmax")(x), name="transformer")


NETWORKS = (lstm_keywords, gru_keywords, unet, transformer)
