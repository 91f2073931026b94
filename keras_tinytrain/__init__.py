"""On-device learning for Keras: train the few channels that matter for a task, and run the trainer on a microcontroller."""

import importlib
import typing

if typing.TYPE_CHECKING:
    from keras_tinytrain.callback import TinyTrainCallback
    from keras_tinytrain.delta import Delta
    from keras_tinytrain.fewshot.adapt import adapt
    from keras_tinytrain.fold import fold_batch_norm
    from keras_tinytrain.layers import layer_table
    from keras_tinytrain.plan import Budget, LayerPlan, Plan

__version__ = "0.1.0"

_HOMES = {
    "Budget": "plan",
    "LayerPlan": "plan",
    "Plan": "plan",
    "TinyTrainCallback": "callback",
    "Delta": "delta",
    "layer_table": "layers",
    "fold_batch_norm": "fold",
    "adapt": "fewshot.adapt",
}
__all__ = ["Budget", "Delta", "LayerPlan", "Plan", "TinyTrainCallback", "adapt", "fold_batch_norm", "layer_table"]


def __getattr__(name):
    """Public names load when they are first used: TensorFlow takes seconds, and a Raspberry Pi may not have it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_tinytrain' has no attribute '{name}'")
    return getattr(importlib.import_module(f"keras_tinytrain.{_HOMES[name]}"), name)


def __dir__():
    return sorted([*globals(), *__all__])
