"""What was learned? The new weights of the trained channels; saved, applied, reverted, bound to their base model."""

import typing

from keras_tinytrain._public import lazy_names

if typing.TYPE_CHECKING:
    from keras_tinytrain.delta._channels import model_hash, read_channels
    from keras_tinytrain.delta._delta import Delta, snapshot
    from keras_tinytrain.delta._records import ChannelValues

_HOMES = {
    "ChannelValues": "_records",
    "Delta": "_delta",
    "model_hash": "_channels",
    "read_channels": "_channels",
    "snapshot": "_delta",
}
__all__ = ["ChannelValues", "Delta", "model_hash", "read_channels", "snapshot"]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
