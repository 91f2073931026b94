"""On-device learning for Keras: train the few channels that matter for a task, and run the trainer on a microcontroller."""

import typing

from keras_tinytrain import _checkout, _old_paths
from keras_tinytrain._public import lazy_names

if typing.TYPE_CHECKING:
    from keras_tinytrain.delta import Delta
    from keras_tinytrain.device_settings import DeviceSettings
    from keras_tinytrain.fewshot.adaptation import adapt
    from keras_tinytrain.fit.callback import TinyTrainCallback
    from keras_tinytrain.model.fold import fold_batch_norm
    from keras_tinytrain.model.layers import layer_table
    from keras_tinytrain.plan import Budget, LayerPlan, Plan
    from keras_tinytrain.profiling import profile

__version__ = "0.2.0.dev0"

_checkout.install()
_old_paths.install()
_HOMES = {
    "Budget": "plan",
    "Delta": "delta",
    "DeviceSettings": "device_settings",
    "LayerPlan": "plan",
    "Plan": "plan",
    "TinyTrainCallback": "fit.callback",
    "adapt": "fewshot.adaptation",
    "fold_batch_norm": "model.fold",
    "layer_table": "model.layers",
    "profile": "profiling",
}
__all__ = [
    "Budget",
    "Delta",
    "DeviceSettings",
    "LayerPlan",
    "Plan",
    "TinyTrainCallback",
    "adapt",
    "fold_batch_norm",
    "layer_table",
    "profile",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
