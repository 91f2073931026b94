"""ReLU before hard SiLU and PReLU, not after them.

TensorFlow's converter makes one operator of each of them, but not where it has fused a ReLU into their last product or sum.
"""

import keras

from keras_tinytrain.model._kinds import kind_of
from keras_tinytrain.model.graph import rebuild, walk

_RELUS = (keras.activations.relu, keras.activations.relu6)


def late_relus(model: keras.Model) -> dict[keras.layers.Layer, keras.layers.Layer]:
    """{hard SiLU or PReLU: the ReLU that alone reads it}, at most through layers that only reshape or do nothing.

    Args:
        model: a flat functional model.
    """
    nodes = walk(model)
    readers = [index for node in nodes for index in node.inputs]
    late = {}
    for node in nodes:
        if not _is_relu(node.layer):
            continue
        source = nodes[node.inputs[0]]
        while kind_of(source.layer) == "identity" and readers.count(nodes.index(source)) == 1:
            source = nodes[source.inputs[0]]
        if _has_sign_of_input(source.layer) and readers.count(nodes.index(source)) == 1:
            late[source.layer] = node.layer
    return late


def relu_first(model: keras.Model) -> keras.Model:
    """The same function, with each of `late_relus` before its activation; `model` itself where there is none.

    With f hard SiLU or PReLU, f(x) has the sign of x or is 0, so that relu(f(x)) = f(relu(x)); where x > 0, f(x) <= x, and
    f(x) = x from 3 on, so that it holds for ReLU6, too. PReLU then does nothing, and is left out.

    Args:
        model: a flat functional model; its layers are shared.
    """
    while late := late_relus(model):
        model = rebuild(model, lambda layer, *args, late=late, **kwargs: _moved(late, layer, *args, **kwargs))
    return model


def _moved(late, layer, *args, **kwargs):
    if layer in late.values():
        return args[0]
    if layer not in late:
        return layer(*args, **kwargs)
    rectified = late[layer](*args)
    return rectified if isinstance(layer, keras.layers.PReLU) else layer(rectified, **kwargs)


def _is_relu(layer):
    if type(layer) is keras.layers.ReLU:
        return layer.max_value in (None, 6) and not layer.negative_slope and not layer.threshold
    return type(layer) is keras.layers.Activation and layer.activation in _RELUS


def _has_sign_of_input(layer):
    if type(layer) is keras.layers.PReLU:
        return bool((keras.ops.convert_to_numpy(layer.alpha) >= 0).all())
    return type(layer) is keras.layers.Activation and layer.activation is keras.activations.hard_silu
