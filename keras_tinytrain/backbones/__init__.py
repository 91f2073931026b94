"""Backbones and where their weights come from."""

from keras_tinytrain.backbones.gesture import GestureNet
from keras_tinytrain.backbones.mcunet import MCUNet
from keras_tinytrain.backbones.mobilenet_v2 import MobileNetV2
from keras_tinytrain.backbones.nano import NanoNet
from keras_tinytrain.backbones.pretrained import preprocess_input
from keras_tinytrain.backbones.proxylessnas import ProxylessNASNet

__all__ = ["GestureNet", "MCUNet", "MobileNetV2", "NanoNet", "ProxylessNASNet", "preprocess_input"]
