"""Cut a model in two: the frozen part, and the trainable part from the first trained layer to the end."""

from collections.abc import Collection

import keras

from keras_tinytrain.model.graph import require_functional, walk


def split_model(model: keras.Model, first_layer: str) -> tuple[keras.Model | None, keras.Model]:
    """Cut `model` at the latest tensor through which everything flows, at the input of layer `first_layer` or earlier.

    The inverse is composition: `trainable(frozen(x))` equals `model(x)` exactly. Layers, and so weights, are shared with
    `model`. The frozen part needs to run once per sample, however long the trainable part is trained.

    Args:
        model: a built Functional or Sequential model with one input and without nested models.
        first_layer: name of the earliest layer that is trained.

    Returns:
        (frozen, trainable). `frozen` is None, and `trainable` is `model`, where only the input itself is such a tensor.

    Raises:
        ValueError: there is no layer of that name, or the model cannot be walked (nested models, several inputs).

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")])
        >>> frozen, trainable = split_model(model, "b")
        >>> frozen.output_shape, trainable.input_shape
        ((None, 3), (None, 3))
    """
    nodes = walk(model)
    names = [node.layer.name for node in nodes]
    if first_layer not in names:
        raise ValueError(f"Model '{model.name}' has no layer '{first_layer}'. Its layers: {names}")
    cut = latest_cut([node.inputs for node in nodes], names.index(first_layer))
    if cut is None or not nodes[cut].inputs:
        return None, model
    functional, tensor = require_functional(model), nodes[cut].output
    frozen = keras.Model(functional.inputs[0], tensor, name=f"{model.name}_frozen")
    outputs = functional.outputs if len(functional.outputs) > 1 else functional.outputs[0]
    return frozen, keras.Model(tensor, outputs, name=f"{model.name}_trainable")


def latest_cut(inputs: list[tuple[int, ...]], first: int | None, read: Collection[int] = ()) -> int | None:
    """The latest node through which every path to node `first` and to its descendants runs.

    dominators(n) = {n} + the intersection of dominators(i) over the inputs i of n; the cut is the latest node that
    dominates `first` and all its descendants and is none of them.

    Args:
        inputs: per node, in execution order, the indices of the nodes it reads.
        first: index of the first trained node; None: nothing is trained.
        read: nodes whose values are read beside the last one's. The cut dominates them and their descendants too, and may be
            one of them.

    Returns:
        An index below `first`; None where no single node does.
    """
    dominators: list[set[int]] = []
    trained: set[int] = set()  # `first` and its descendants
    needed = set(read)  # and those of `read`
    for node, sources in enumerate(inputs):
        common = set.intersection(*(dominators[source] for source in sources)) if sources else set()
        dominators.append(common | {node})
        if node == first or trained.intersection(sources):
            trained.add(node)
        if node in trained or needed.intersection(sources):
            needed.add(node)
    cuts = set.intersection(*(dominators[node] for node in needed)) - trained
    return max(cuts, default=None)
