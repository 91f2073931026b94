"""Models, other callbacks and plans that `TinyTrainCallback` refuses, because training would go wrong silently."""

import keras
import tensorflow as tf

from keras_tinytrain.model.channels import SEPARABLE_PARTS
from keras_tinytrain.model.graph import named_operations
from keras_tinytrain.model.keras_package import is_keras2, keras_package
from keras_tinytrain.plan import Plan


def check_fit(model: keras.Model, other_callbacks: list[keras.callbacks.Callback]) -> None:
    """Raise ValueError where the model or another callback would go wrong silently."""
    package = keras_package(model)
    if keras.backend.backend() != "tensorflow" and not is_keras2(model):
        raise ValueError(
            f"TinyTrainCallback trains with TensorFlow, and Keras runs on {keras.backend.backend()}. Set the environment variable "
            "KERAS_BACKEND=tensorflow before Keras is imported."
        )
    if (strategy := _strategy(model)) is not None:
        raise ValueError(
            f"Model '{model.name}' was built under a {type(strategy).__name__}, with which TinyTrainCallback does not work. Build "
            "and compile it outside of strategy.scope(): it then trains on one device."
        )
    if model.optimizer is None:
        raise ValueError("TinyTrainCallback needs a model that was compiled with an optimizer.")
    if getattr(model.train_step, "__func__", None) is not package.Model.train_step:
        raise ValueError(
            f"Model '{model.name}' has a train_step of its own, which TinyTrainCallback would replace. Call "
            "keras_tinytrain.fit.sparse.sparse_train_step in it instead of using the callback, or override compute_loss."
        )
    for side in ("input", "output"):
        tensors = getattr(model, f"{side}s", None) or ()  # None in a Sequential that is not built
        names = list(getattr(model, f"{side}_names", None) or (tensor.name for tensor in tensors))
        if len(names) > 1:
            raise ValueError(
                f"TinyTrainCallback needs a model with one {side}. Received '{model.name}' with {len(names)}: {names}. Fit a part of it, "
                f"which shares its layers: keras.Model({'model.input, one of model.outputs' if side == 'output' else 'inputs, outputs'})."
            )
    refused = [getattr(package.callbacks, "SwapEMAWeights", ())]  # pairs the optimizer's averages with all weights of the model
    refused += [package.callbacks.BackupAndRestore] * is_keras2(model)  # restores into an optimizer of all weights
    for callback in other_callbacks:
        if isinstance(callback, tuple(kind for kind in refused if kind)):
            name = f"{package.__name__}.callbacks.{type(callback).__name__}"
            raise ValueError(f"{name} does not go with an optimizer that knows the chosen channels only. Leave it out.")


def _strategy(model):
    """The distribution strategy of a model, None where it has none that makes a difference."""
    strategy = model.distribute_strategy
    if isinstance(strategy, tf.distribute.OneDeviceStrategy) and not is_keras2(model):
        return None
    with strategy.scope():
        return strategy if tf.distribute.has_strategy() else None


def check_plan(plan: Plan, model: keras.Model) -> None:
    """Raise ValueError where the plan trains nothing, or a layer that the user does not want trained."""
    if not plan.layers:
        raise ValueError(f"The plan (strategy '{plan.strategy}') trains nothing; leave TinyTrainCallback out.")
    if frozen := sorted(frozen_layers(model).intersection(layer.name for layer in plan.layers)):
        raise ValueError(
            f"The plan (strategy '{plan.strategy}') trains layers whose trainable flag is False: {frozen}. Set it to "
            "True, or remove them from the plan."
        )


def frozen_layers(model: keras.Model) -> set[str]:
    """Names of the layers that the user does not want trained, and of the two convolutions that a separable one is."""
    names = {name for name, layer in named_operations(model).items() if not getattr(layer, "trainable", True)}
    return names | {f"{name}.{part}" for name in names for part in SEPARABLE_PARTS}
