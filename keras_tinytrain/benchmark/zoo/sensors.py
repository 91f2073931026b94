"""Networks for sound, motion and other sensors."""

import keras
from keras import layers
from keras.constraints import MaxNorm


def edge_impulse_flat():
    """Edge Impulse's dense network on 33 spectral features, with its activity regularisers"""
    return keras.Sequential(
        [
            keras.Input((33,)),
            layers.Dense(20, "relu", activity_regularizer=keras.regularizers.L1(1e-5)),
            layers.Dense(10, "relu", activity_regularizer=keras.regularizers.L1(1e-5)),
            layers.Dense(4, "softmax", name="y_pred"),
        ]
    )


def edge_impulse_conv1d():
    """Edge Impulse's Conv1D keyword network on 650 MFCC features"""
    model = keras.Sequential([keras.Input((650,)), layers.Reshape((50, 13))])
    for filters in (8, 16):
        model.add(layers.Conv1D(filters, 3, padding="same", activation="relu", kernel_constraint=MaxNorm(1)))
        model.add(layers.MaxPooling1D(2, strides=2, padding="same"))
        model.add(layers.Dropout(0.25))
    model.add(layers.Flatten())
    model.add(layers.Dense(4, "softmax", name="y_pred"))
    return model


def edge_impulse_mfcc():
    """Edge Impulse's Conv2D keyword network on 650 MFCC features"""
    model = keras.Sequential([keras.Input((650,)), layers.Reshape((50, 13, 1))])
    for filters in (8, 16):
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_constraint=MaxNorm(1)))
        model.add(layers.MaxPooling2D(2, strides=2, padding="same"))
        model.add(layers.Dropout(0.25))
    model.add(layers.Flatten())
    model.add(layers.Dense(4, "softmax", name="y_pred"))
    return model


def micro_speech():
    """tiny_conv of TensorFlow Lite Micro's example micro_speech, 49 x 40 spectrogram"""
    return keras.Sequential(
        [
            keras.Input((49, 40, 1)),
            layers.Conv2D(8, (10, 8), strides=2, padding="same", activation="relu"),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(4, "softmax"),
        ]
    )


def magic_wand():
    """The CNN of TensorFlow Lite Micro's example magic_wand, 128 steps of 3 axes"""
    model = keras.Sequential([keras.Input((128, 3, 1))])
    for filters, kernel, pool in ((8, (4, 3), (3, 3)), (16, (4, 1), (3, 1))):
        model.add(layers.Conv2D(filters, kernel, padding="same", activation="relu"))
        model.add(layers.MaxPool2D(pool))
        model.add(layers.Dropout(0.1))
    model.add(layers.Flatten())
    model.add(layers.Dense(16, "relu"))
    model.add(layers.Dropout(0.1))
    model.add(layers.Dense(4, "softmax"))
    return model


def eegnet():
    """EEGNet-8,2 (Lawhern et al., 2018), 16 electrodes, 128 steps"""
    x = image = keras.Input((16, 128, 1))
    x = layers.BatchNormalization()(layers.Conv2D(8, (1, 64), padding="same", use_bias=False)(x))
    x = layers.DepthwiseConv2D((16, 1), use_bias=False, depth_multiplier=2, depthwise_constraint=MaxNorm(1.0))(x)
    x = layers.Activation("elu")(layers.BatchNormalization()(x))
    x = layers.Dropout(0.5)(layers.AveragePooling2D((1, 4))(x))
    x = layers.SeparableConv2D(16, (1, 16), use_bias=False, padding="same")(x)
    x = layers.Activation("elu")(layers.BatchNormalization()(x))
    x = layers.Dropout(0.5)(layers.AveragePooling2D((1, 8))(x))
    x = layers.Dense(4, kernel_constraint=MaxNorm(0.25))(layers.Flatten()(x))
    return keras.Model(image, layers.Activation("softmax")(x), name="eegnet")


def temporal_convolutions():
    """Dilated causal Conv1D blocks with residuals (Bai et al., 2018), 64 steps of 6 axes"""
    x = window = keras.Input((64, 6))
    x = layers.Conv1D(16, 1)(x)
    for dilation in (1, 2, 4):
        y = layers.Conv1D(16, 3, padding="causal", dilation_rate=dilation, activation="relu")(x)
        x = layers.Add()([x, layers.Conv1D(16, 1)(y)])
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(window, layers.Dense(4, "softmax")(x), name="temporal_convolutions")


NETWORKS = (
    edge_impulse_flat,
    edge_impulse_conv1d,
    edge_impulse_mfcc,
    micro_speech,
    magic_wand,
    eegnet,
    temporal_convolutions,
)
