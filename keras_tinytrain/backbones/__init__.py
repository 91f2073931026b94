"""Where do networks come from? Backbones, images or windows of motion to embeddings, and their weights."""

import typing

from keras_tinytrain._public import lazy_names

if typing.TYPE_CHECKING:
    from keras_tinytrain.backbones.gesture import GestureNet
    from keras_tinytrain.backbones.imagenet_weights import preprocess_input
    from keras_tinytrain.backbones.mcunet import MCUNet
    from keras_tinytrain.backbones.mobilenet_v2 import MobileNetV2
    from keras_tinytrain.backbones.nano import NanoNet
    from keras_tinytrain.backbones.proxylessnas import ProxylessNASNet

_HOMES = {
    "GestureNet": "gesture",
    "MCUNet": "mcunet",
    "MobileNetV2": "mobilenet_v2",
    "NanoNet": "nano",
    "ProxylessNASNet": "proxylessnas",
    "preprocess_input": "imagenet_weights",
}
__all__ = ["GestureNet", "MCUNet", "MobileNetV2", "NanoNet", "ProxylessNASNet", "preprocess_input"]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
