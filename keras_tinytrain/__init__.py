"""On-device learning for Keras: train the few channels that matter for a task, and run the trainer on a microcontroller."""

import importlib

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
__all__ = sorted(_HOMES)


def __getattr__(name):
    """Public names load when they are first used: TensorFlow takes seconds, `--version` should not."""
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_tinytrain' has no attribute '{name}'")
    return getattr(importlib.import_module(f"keras_tinytrain.{_HOMES[name]}"), name)


def __dir__():
    return __all__ + ["__version__"]
