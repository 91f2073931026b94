"""A SavedModel that Keras 2 wrote: the configuration and the weights of its layers, read without running anything in it."""

import json
import pathlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from keras_tinytrain.model._keras2_graph import keras3_model
from keras_tinytrain.model._keras2_layers import keras3_name
from keras_tinytrain.model._keras2_weights import assign_weights


def load_saved_model(folder: pathlib.Path) -> keras.Model:
    """The Keras 3 model of the same layers and weights.

    Raises:
        ValueError: it was not saved by Keras 2, or a layer has no counterpart in Keras 3.
    """
    description = _description(folder)
    if not {"class_name", "config"} <= description.keys():
        raise ValueError(
            "this SavedModel holds TensorFlow functions and no Keras layers. Save the Keras model that it was made from: "
            'model.save("model.keras").'
        )
    model = keras3_model(description["class_name"], description["config"])
    for layer, weights in zip(_layers_in_order(model, description["config"]), _weights_by_layer(folder), strict=True):
        if getattr(layer, "weights", []):
            assign_weights(layer, weights)
    return model


def _description(folder):
    """What Keras 2 noted about the model: the first JSON in keras_metadata.pb, before TensorFlow 2.5 in saved_model.pb."""
    metadata = folder / "keras_metadata.pb"
    if metadata.exists():
        text = metadata.read_bytes().decode(errors="replace")
    else:
        graph = SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0].object_graph_def
        text = graph.nodes[0].user_object.metadata
    begin = text.find("{")
    return json.JSONDecoder(object_hook=_tuple).raw_decode(text, begin)[0] if begin >= 0 else {}


def _tuple(value):
    return tuple(value["items"]) if value.get("class_name") == "__tuple__" else value


def _layers_in_order(model, config):
    """The layers as Keras 2 numbers them: of a Sequential without its input."""
    named = {layer.name: layer for layer in model.layers}
    first = isinstance(model, keras.Sequential) and config["layers"][0]["class_name"] == "InputLayer"
    return [named.get(keras3_name(entry["config"]["name"])) for entry in config["layers"][int(first) :]]


def _weights_by_layer(folder: pathlib.Path) -> Iterator[list[np.ndarray]]:
    """The weights of layer-0, layer-1, ... of the checkpoint, those of a nested model in one list."""
    checkpoint = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    nodes = TrackableObjectGraph.FromString(checkpoint.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")).nodes

    def children(node):
        return {child.local_name: nodes[child.node_id] for child in node.children}

    model = children(nodes[0])
    for index in range(sum(name.startswith("layer-") for name in model)):
        layer = children(model[f"layer-{index}"])
        listed = children(layer["variables"]) if "variables" in layer else {}
        variables = [listed[key] for key in sorted(listed, key=int)] or layer.values()  # a Normalization has no list
        keys = dict.fromkeys(variable.attributes[0].checkpoint_key for variable in variables if variable.attributes)
        yield [checkpoint.get_tensor(key) for key in keys]
