"""The small networks of `keras.applications`, with a new head of five classes and at sizes of a microcontroller.

Their weights are initial ones. Their BatchNorm statistics are those of noise, without which activations vanish in deep networks.
"""

import keras
import numpy as np
from keras import layers


def mobilenet():
    """keras.applications.MobileNet 0.25, at 96 x 96"""
    return _with_head(keras.applications.MobileNet, 96, alpha=0.25)


def mobilenet_v2():
    """keras.applications.MobileNetV2 0.35, at 96 x 96"""
    return _with_head(keras.applications.MobileNetV2, 96, alpha=0.35)


def mobilenet_v3_small():
    """keras.applications.MobileNetV3Small, minimalistic, 0.75, at 96 x 96"""
    return _with_head(keras.applications.MobileNetV3Small, 96, alpha=0.75, minimalistic=True)


def mobilenet_v3_small_full():
    """keras.applications.MobileNetV3Small 0.75 with squeeze-and-excitation and hard swish, at 96 x 96"""
    return _with_head(keras.applications.MobileNetV3Small, 96, alpha=0.75)


def efficientnet_b0():
    """keras.applications.EfficientNetB0, at 64 x 64"""
    return _with_head(keras.applications.EfficientNetB0, 64)


def efficientnet_v2_b0():
    """keras.applications.EfficientNetV2B0, at 64 x 64"""
    return _with_head(keras.applications.EfficientNetV2B0, 64)


def nasnet_mobile():
    """keras.applications.NASNetMobile, at 64 x 64"""
    return _with_head(keras.applications.NASNetMobile, 64)


def densenet121():
    """keras.applications.DenseNet121, at 64 x 64"""
    return _with_head(keras.applications.DenseNet121, 64)


def _with_head(application, side, **options):
    base = application(input_shape=(side, side, 3), include_top=False, pooling="avg", weights=None, **options)
    noise = np.random.default_rng(0).random((8, side, side, 3), np.float32)
    _take_statistics(base, noise * 255 if any(isinstance(layer, layers.Rescaling) for layer in base.layers) else noise)
    return keras.Sequential([base, layers.Dropout(0.2), layers.Dense(5, "softmax", name="classes")])


def _take_statistics(model, x):
    """Give every BatchNorm the mean and variance of what reaches it."""
    norms = {layer: layer.momentum for layer in model.layers if isinstance(layer, layers.BatchNormalization)}
    for layer in norms:
        layer.momentum = 0.0
    model(x, training=True)
    for layer, momentum in norms.items():
        layer.momentum = momentum


NETWORKS = (
    mobilenet,
    mobilenet_v2,
    mobilenet_v3_small,
    mobilenet_v3_small_full,
    efficientnet_b0,
    efficientnet_v2_b0,
    nasnet_mobile,
    densenet121,
)
