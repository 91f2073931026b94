"""Find the trained layers in an int8 model, and cut it in two before the first of them.

One conversion serves both parts. So the frozen part's output and the trainable part's input have the same scale by
construction, and the two parts together equal the whole int8 model bit for bit.
"""

from collections.abc import Sequence

import keras
import numpy as np

from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite import qat
from keras_tinytrain.export.tflite._pads import absorb_pads
from keras_tinytrain.export.tflite.layer_names import operator_of
from keras_tinytrain.model.graph import find_layer
from keras_tinytrain.model.split import latest_cut
from keras_tinytrain.plan import LayerPlan, Plan

_TRAINABLE = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def cut_model(
    model_bytes: bytes,
    model: keras.Model,
    plan: Plan,
    *,
    split: bool = True,
    maps: Sequence[str] = (),
    stores_maps: bool = False,
) -> tuple[bytes | None, bytes, dict[str, int]]:
    """Cut an int8 model at the latest tensor through which everything flows before the first layer of `plan`, and to the maps.

    Args:
        model_bytes: `convert_int8(model, ...)`.
        model: the canonical Keras model that was converted, or the quantisation-aware one.
        plan: layers and channels to train.
        split: False leaves the model in one piece.
        maps: names of layers whose outputs the trainable part computes, or begins with.
        stores_maps: the maps do not hold the cut back: those before it are further outputs of the frozen part.

    Returns:
        (frozen, trainable, operators): two .tflite files and, per trained layer, its operator's index in `trainable`.
        `frozen` is None where the cut is the model's input, or none was asked for.

    Raises:
        ValueError: a layer or a channel of the plan is not in the model.
    """
    whole = fb.read_model(model_bytes)
    trained = find_trained(whole, model, plan)
    kept = absorb_pads(whole, keep=set(trained.values()))
    trained = {name: kept.index(operator) for name, operator in trained.items()}
    first = min(trained.values())
    map_operators = [operator_of(whole, name) for name in maps]
    before, after, features = _split_operators(whole, first if split else 0, map_operators)
    stored: list[int] = []
    if stores_maps:
        earlier, later, latest = _split_operators(whole, first if split else 0, [])
        if set(map_operators) <= {*earlier, *later}:
            before, after, features = earlier, later, latest
            ends = [int(whole.subgraphs[0].operators[index].outputs[0]) for index in map_operators if index in before]
            stored = [tensor for tensor in ends if tensor != features]
    image, head = int(whole.subgraphs[0].inputs[0]), int(whole.subgraphs[0].outputs[0])
    frozen = fb.part_of(whole, before, [image], [features, *stored]) if before else None
    trainable = fb.part_of(whole, after, [features], [head])
    return frozen, trainable, {name: after.index(operator) for name, operator in trained.items()}


def find_trained(whole: fb.schema.ModelT, model: keras.Model, plan: Plan) -> dict[str, int]:
    """{layer name: index of the operator that computes it} for the plan's layers, in the order of the operators."""
    if not plan.layers:
        raise ValueError("The plan trains no layer: nothing to export.")
    found = {}
    for layer_plan in plan.layers:
        find = qat.operator_of if qat.is_tf_keras(model) else _operator_named
        found[layer_plan.name] = find(whole, model, layer_plan.name)
        _check_channels(whole, found[layer_plan.name], layer_plan)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _check_channels(whole: fb.schema.ModelT, index: int, layer_plan: LayerPlan) -> None:
    kernel, last = _float_kernel(whole, index), layer_plan.channels[-1]
    if kernel is None:
        raise ValueError(f"Layer '{layer_plan.name}' holds no kernel: plan another layer.")
    if last >= len(kernel):
        raise ValueError(f"The plan trains channel {last} of layer '{layer_plan.name}', which has {len(kernel)} channels.")
    if not kernel[list(layer_plan.channels)].any():
        raise ValueError(
            f"All kernels that the plan trains in layer '{layer_plan.name}' are zero, so that their int8 scale leaves no room "
            "for any other value. Give the layer weights of the size that training will reach before the export."
        )


def _operator_named(whole: fb.schema.ModelT, model: keras.Model, name: str) -> int:
    layer = find_layer(model, name)
    if not isinstance(layer, _TRAINABLE):
        kinds = ", ".join(kind.__name__ for kind in _TRAINABLE)
        raise ValueError(f"Layer '{layer.name}' is a {type(layer).__name__}; layers that can be trained: {kinds}.")
    return _operator_of(whole, layer)


def _operator_of(whole: fb.schema.ModelT, layer: keras.layers.Layer) -> int:
    """The operator that computes a Keras layer: the one whose kernel is that layer's, rounded to int8."""
    axis = 2 if isinstance(layer, keras.layers.DepthwiseConv2D) else -1
    kernel = np.moveaxis(np.asarray(layer.kernel, np.float64), axis, 0)
    kernel = kernel.reshape(len(kernel), -1)
    operators = whole.subgraphs[0].operators
    found = [index for index in range(len(operators)) if _holds_kernel(whole, index, kernel)]
    if len(found) > 1:  # equal weights: only the name tells the operators apart
        names = {index: fb.tensor_name(whole, operators[index].outputs[0]).split(";") for index in found}
        found = [index for index in found if layer.name in names[index]]
    if len(found) == 1:
        _check_bias(whole, found[0], layer)
    else:
        raise ValueError(
            f"Layer '{layer.name}' was merged with a neighbour in the converted model, such as a Rescaling before it: {len(found)} "
            "operators hold its weights. Plan another layer, or scale the samples outside the model."
        )
    return found[0]


def _check_bias(whole: fb.schema.ModelT, index: int, layer: keras.layers.Layer) -> None:
    """Raise ValueError where the converter has added a constant to the layer's bias, as that of a hard sigmoid after it."""
    operator = whole.subgraphs[0].operators[index]
    bias = fb.constant(whole, int(operator.inputs[2])) if len(operator.inputs) > 2 else None
    steps = fb.quantisation(whole, operator.inputs[0])[0] * fb.quantisation(whole, operator.inputs[1])[0].astype(np.float64)
    expected = np.asarray(layer.bias, np.float64) if layer.use_bias else 0.0
    actual = 0.0 if bias is None else bias * steps
    if np.any(np.abs(actual - expected) > steps + 1e-5 * np.abs(expected)):
        raise ValueError(
            f"Layer '{layer.name}' has another bias in the converted model: the constant of the layer after it, such as a hard "
            "sigmoid, became part of it, so that the device cannot train it. Plan another layer."
        )


def _holds_kernel(whole: fb.schema.ModelT, index: int, kernel: np.ndarray) -> bool:
    rounded = _float_kernel(whole, index)
    if rounded is None or rounded.shape != kernel.shape:
        return False
    half_step = 0.5 * fb.quantisation(whole, whole.subgraphs[0].operators[index].inputs[1])[0].astype(np.float64)
    return bool(np.all(np.abs(rounded - kernel) <= 1.001 * np.atleast_1d(half_step)[:, None]))


def _float_kernel(whole: fb.schema.ModelT, index: int) -> np.ndarray | None:
    """The kernel of an operator as real values [output channels][weights]; None where it has none."""
    operator = whole.subgraphs[0].operators[index]
    name = fb.operator_name(whole, operator)
    if name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return None
    kernel = fb.constant(whole, operator.inputs[1])
    if kernel is None:
        return None
    kernel = np.moveaxis(kernel, 3, 0) if name == "DEPTHWISE_CONV_2D" else kernel
    scales, _ = fb.quantisation(whole, operator.inputs[1])
    return kernel.reshape(len(kernel), -1) * scales.astype(np.float64)[:, None]


def _split_operators(whole: fb.schema.ModelT, first: int, maps: list[int]) -> tuple[list[int], list[int], int]:
    """(operators before the cut, operators after it, tensor at the cut). The cut lies as late as `first` and `maps` allow."""
    graph = whole.subgraphs[0]
    node_of = {int(graph.inputs[0]): 0}  # node 0 is the model's input, node i + 1 is operator i
    inputs: list[tuple[int, ...]] = [()]
    for index, operator in enumerate(graph.operators):
        inputs.append(tuple({node_of[int(tensor)] for tensor in operator.inputs if int(tensor) in node_of}))
        node_of.update({int(tensor): index + 1 for tensor in operator.outputs})
    cut = latest_cut(inputs, first + 1, [index + 1 for index in maps]) or 0
    while cut and fb.operator_name(whole, graph.operators[cut - 1]) == "PAD":
        (cut,) = inputs[cut]  # a padded copy is larger, and the convolution after it can pad by itself
    before = _ancestors(inputs, cut, stop=0)
    after = _ancestors(inputs, node_of[int(graph.outputs[0])], stop=cut)
    features = int(graph.operators[cut - 1].outputs[0]) if cut else int(graph.inputs[0])
    return [node - 1 for node in before], [node - 1 for node in after], features


def _ancestors(inputs: list[tuple[int, ...]], node: int, *, stop: int) -> list[int]:
    """`node` and all nodes that it is computed from, without `stop` and those before it; ascending."""
    found: set[int] = set()
    pending = [node]
    while pending:
        node = pending.pop()
        if node != stop and node not in found:
            found.add(node)
            pending.extend(inputs[node])
    return sorted(found)
