"""A Keras 3 model from the configuration of a Keras 2 model: Sequential or Functional, models inside models."""

from collections.abc import Iterator
from typing import Any

import keras

from keras_tinytrain.model._keras2_functions import function_of
from keras_tinytrain.model._keras2_layers import keras3_layer, keras3_name
from keras_tinytrain.model.private_keras import name_operation

_FUNCTIONS = ("TFOpLambda", "SlicingOpLambda")
_MODELS = ("Functional", "Model")


def keras3_model(class_name: str, config: Any) -> keras.Model:
    """The model of the same layers and names, with fresh weights.

    Args:
        class_name: "Sequential", "Functional" or "Model", as Keras 2 names it.
        config: the model's configuration, `model.get_config()` or the same from a file.

    Raises:
        ValueError: a layer has no counterpart in Keras 3, or the model is subclassed.
    """
    if class_name == "Sequential":
        return _sequential(config if isinstance(config, dict) else {"layers": config})
    if class_name in _MODELS or "input_layers" in config:  # a subclass of a Functional model has its graph too
        return _functional(config)
    raise ValueError(
        f"it is a {class_name}, a subclassed model whose layers cannot be seen. Rebuild it with keras.Model(inputs, outputs)."
    )


def _sequential(config):
    layers = [_layer(entry) for entry in config["layers"]]
    first = config["layers"][0]
    if first["class_name"] != "InputLayer" and "batch_input_shape" in first["config"]:
        layers.insert(0, keras.Input(batch_shape=first["config"]["batch_input_shape"]))
    model = keras.Sequential(layers, name=keras3_name(config.get("name", "model")), trainable=config.get("trainable", True))
    if not model.built and config.get("build_input_shape"):
        model.build(tuple(config["build_input_shape"]))
    return model


def _layer(entry):
    if entry["class_name"] in (*_MODELS, "Sequential"):
        return keras3_model(entry["class_name"], entry["config"])
    return function_of(entry) if entry["class_name"] in _FUNCTIONS else keras3_layer(entry)


def _functional(config):
    layers = {entry["name"]: _layer(entry) for entry in config["layers"]}
    made: dict[str, list] = {}  # {layer name: what each of its calls gave}
    for entry in config["layers"]:
        if entry["class_name"] == "InputLayer":
            made[entry["name"]] = [layers[entry["name"]].output]
        elif entry["class_name"] in (*_MODELS, "Sequential") and _counts_its_own_input(entry["config"]):
            made[entry["name"]] = [None]  # Keras 2 counts the calls of a model from 1: its own graph is call 0
    for name, node in _in_order(config["layers"], made):
        arguments, options = _call(node, made)
        output = layers[name](*arguments, **options)
        if not isinstance(layers[name], keras.layers.Layer) and output is not arguments[0]:
            name_operation(output, keras3_name(name))
        made.setdefault(name, []).append(output)
    inputs, outputs = (_tensors(config[end], made) for end in ("input_layers", "output_layers"))
    return keras.Model(inputs, outputs, name=keras3_name(config.get("name", "model")), trainable=config.get("trainable", True))


def _counts_its_own_input(config):
    """Whether a model had its input from the start, so that Keras 2 had called it once already."""
    first = config["layers"][0] if isinstance(config, dict) else config[0]
    return first["class_name"] == "InputLayer"


def _in_order(entries: list, made: dict) -> Iterator[tuple[str, Any]]:
    """(layer name, call) for all calls, each after those whose outputs it reads."""
    waiting = [(entry["name"], node) for entry in entries for node in entry.get("inbound_nodes", [])]
    while waiting:
        ready = next((item for item in waiting if all(_is_made(source, made) for source in _sources(item[1]))), None)
        if ready is None:
            raise ValueError(f"The calls of layers {sorted({name for name, _ in waiting})} read tensors that nothing makes.")
        waiting.remove(ready)
        yield ready


def _is_made(source, made):
    return len(made.get(source[0], [])) > source[1]


def _sources(value):
    """The references [layer name, call, output] in a call."""
    if _is_reference(value):
        rest = value[3] if len(value) > 3 else {}
        return [*([] if value[0] == "_CONSTANT_VALUE" else [value]), *_sources(rest)]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [source for part in parts for source in _sources(part)]


def _is_reference(value):
    return isinstance(value, (list, tuple)) and len(value) in (3, 4) and isinstance(value[0], str) and isinstance(value[1], int)


def _call(node, made):
    """Positional and keyword arguments of one call."""
    references = [node] if _is_reference(node) else node
    values = [_value(reference[:3], made) for reference in references]
    options = references[0][3] if len(references[0]) > 3 else {}
    options = {key: _value(value, made) for key, value in options.items() if value is not None}
    return [values[0] if len(values) == 1 else values], options


def _value(value, made):
    """A value of a configuration with tensors in place of references."""
    if _is_reference(value):
        return value[2] if value[0] == "_CONSTANT_VALUE" else _tensor(value, made)
    if isinstance(value, dict):
        return {key: _value(part, made) for key, part in value.items()}
    return type(value)(_value(part, made) for part in value) if isinstance(value, (list, tuple)) else value


def _tensor(reference, made):
    output = made[reference[0]][reference[1]]
    return output[reference[2]] if isinstance(output, (list, tuple)) else output


def _tensors(ends, made):
    """Inputs or outputs of a model: one tensor where there is one, in whatever structure."""
    if _is_reference(ends):
        return _tensor(ends, made)
    if isinstance(ends, dict):
        ends = list(ends.values())
    tensors = [_tensors(end, made) for end in ends]
    return tensors[0] if len(tensors) == 1 else tensors
