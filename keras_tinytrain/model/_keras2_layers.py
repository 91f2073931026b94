"""One layer of Keras 2 as a layer of Keras 3, from its configuration."""

import inspect
from typing import Any

import keras

from keras_tinytrain._text import keras_reason
from keras_tinytrain.model.private_keras import FUNCTIONAL_MODULE

NO_LAMBDA = (
    "A Lambda is Python code, and code in a file is not run. Build that step from a layer, such as Rescaling or one of your own "
    "with a name, and save the model again."
)
# Arguments that every layer of Keras 3 takes besides those of its own class.
_COMMON = {"name", "dtype", "trainable", "activity_regularizer"}
# Arguments of Keras 2 that decide nothing about a trained layer's output.
_WITHOUT_EFFECT = {
    "batch_input_shape",
    "implementation",
    "fused",
    "input_length",
    "input_dim",
    "unroll",
    "experimental_autocast",
}
# An argument is renamed only where Keras 3 does not know the old name and knows the new one.
_RENAMED = {"batch_input_shape": "batch_shape", "alpha": "negative_slope"}


def keras3_name(name: str) -> str:
    """The name of a layer of Keras 2 in Keras 3, where it cannot contain "/"."""
    return name.replace("/", ".")


def keras3_layer(layer_config: dict) -> keras.layers.Layer:
    """The layer that `layer_config`, {"class_name", "config"} as Keras 2 writes it, describes.

    Raises:
        ValueError: its class is not known, or has an argument with an effect that Keras 3 does not have.
    """
    if layer_config["class_name"] == "Lambda":
        raise ValueError(f"Layer '{layer_config['config']['name']}' cannot be read. {NO_LAMBDA}")
    mended = _mended(layer_config)
    try:
        return keras.saving.deserialize_keras_object(mended)
    except (TypeError, ValueError, NotImplementedError, AttributeError, KeyError) as error:
        name = layer_config["config"].get("name", "")
        raise ValueError(f"Layer '{name}', a {layer_config['class_name']} of Keras 2: {keras_reason(error)}") from error


def _mended(value: Any) -> Any:
    """A configuration of Keras 2 as Keras 3 reads it, with those of the layers inside it."""
    if isinstance(value, (list, tuple)):
        return [_mended(part) for part in value]
    if not isinstance(value, dict):
        return value
    value = {key: _mended(part) for key, part in value.items()}
    if value.get("class_name") in ("Policy", "PolicyV1"):
        return value["config"]["name"]
    kind = value.get("class_name")
    if kind in ("Functional", "Model"):  # inside a wrapper
        value.update(module=FUNCTIONAL_MODULE, class_name="Functional")
    elif inspect.isclass(layer_class := getattr(keras.layers, str(kind), None)) and isinstance(value.get("config"), dict):
        value = {"module": "keras.layers", "class_name": kind, "config": _arguments(layer_class, value["config"])}
        value["registered_name"] = kind
    return value


def _arguments(layer_class, config):
    """The arguments of `layer_class` in a configuration of Keras 2."""
    known = _COMMON | set(inspect.signature(layer_class).parameters)
    arguments = {}
    for key, value in config.items():
        name = key if key in known else _RENAMED.get(key)
        if name in known:
            arguments[name] = value
        elif not (key in _WITHOUT_EFFECT or key.endswith("_initializer") or _is_neutral(value)):
            raise ValueError(
                f"Layer '{config.get('name')}', a {layer_class.__name__} of Keras 2, has {key}={value!r}, which Keras 3 "
                "does not have. Build it without and save the model again."
            )
    arguments["name"] = keras3_name(arguments["name"])
    if layer_class is keras.layers.BatchNormalization and isinstance(arguments["axis"], list):
        (arguments["axis"],) = arguments["axis"]
    return arguments


def _is_neutral(value):
    """Whether an argument with this value asks for nothing, as groups=1 and ragged=False do."""
    return not value or (value == 1 and value is not True)
