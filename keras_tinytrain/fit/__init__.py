"""How do I train chosen channels in `fit`? A callback, and its parts for a `train_step` of one's own."""

import typing

from keras_tinytrain._public import lazy_names

if typing.TYPE_CHECKING:
    from keras_tinytrain.fit.callback import TinyTrainCallback
    from keras_tinytrain.fit.frozen_cache import FrozenCache
    from keras_tinytrain.fit.sparse import ChannelSlice, channel_optimizer, channel_slices, sparse_train_step

_HOMES = {
    "ChannelSlice": "sparse",
    "FrozenCache": "frozen_cache",
    "TinyTrainCallback": "callback",
    "channel_optimizer": "sparse",
    "channel_slices": "sparse",
    "sparse_train_step": "sparse",
}
__all__ = [
    "ChannelSlice",
    "FrozenCache",
    "TinyTrainCallback",
    "channel_optimizer",
    "channel_slices",
    "sparse_train_step",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
