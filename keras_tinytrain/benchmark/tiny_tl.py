"""TinyTL (Cai et al., NeurIPS 2020): small residual modules beside frozen blocks, trained together with all biases.

The module as in its section 3.2 and public code: the block's input is pooled 2x2, goes through a 5x5 convolution in 2 groups
and a 1x1 convolution, and is upsampled bilinearly onto the block's output. Ours has no normalisation, which does not learn from
a few samples; the 1x1 convolution starts at zero, as the original's last scale does, so that the network starts as the
backbone. The original pre-trains its modules on ImageNet; there are no such weights for these backbones.

AdapterDrop (Ruecklé et al., EMNLP 2021) leaves out the modules of the first blocks; the backward pass ends where they begin.
"""

import keras

from keras_tinytrain.model.graph import flatten, rebuild, walk
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import LayerPlan, Plan

GROUPS, KERNEL = 2, 5


def lite_residual_network(backbone: keras.Model, *, drop: float = 0.0, seed: int = 0) -> keras.Model:
    """A copy of `backbone` with a lite residual module beside each block; it answers as `backbone` does until it is trained.

    Args:
        backbone: of inverted bottlenecks, layers called "b0.dw", "b1.pw1", ... (see `imagenet_network`).
        drop: fraction of the blocks, from the first on, that get no module.
        seed: of the modules' first convolutions.

    Returns:
        A Functional model; the modules' convolutions are called "b1.lite1.0", "b1.lite1.1" and "b1.lite2".

    Raises:
        ValueError: the model has no such blocks.
    """
    names = [node.layer.name for node in walk(flatten(backbone))]
    blocks = [block for block in dict.fromkeys(map(_block, names)) if block]
    if not blocks:
        raise ValueError(f"TinyTL needs blocks of layers called b0.dw, b1.pw1, ... Model '{backbone.name}' has {names[:8]} ...")
    members = {block: [name for name in names if _block(name) == block] for block in blocks}
    kept = list(members)[round(drop * len(members)) :]
    first, last = ({members[block][end]: block for block in kept} for end in (0, -1))
    inputs, copies = {}, {}

    def call(layer, *args, **kwargs):
        if layer.name in first:  # a block begins with one tensor; a later residual addition reads it again
            inputs[first[layer.name]] = args[0]
        copy = copies[layer.name] = type(layer).from_config(layer.get_config())
        output = copy(*args, **kwargs)
        if layer.name not in last:
            return output
        block = last[layer.name]
        return keras.layers.Add(name=f"{block}.lite.add")([output, _lite_residual(inputs[block], output, block, seed)])

    network = rebuild(flatten(backbone), call)
    for name, copy in copies.items():
        copy.set_weights(backbone.get_layer(name).get_weights())
    return network


def tiny_tl_plan(network: keras.Model) -> Plan:
    """All of the modules and the biases of all layers from the first module on."""
    table = layer_table(network)
    block = _block(min(filter(_is_lite, table.names), key=table.index))
    begin = min(table.index(name) for name in table.names if _block(name) == block)
    rows = [row for row in table.weighted if table.index(row.name) >= begin]
    layers = (LayerPlan(row.name, tuple(range(row.num_channels)), kernel=_is_lite(row.name)) for row in rows if row.has_bias)
    return Plan(tuple(layers), strategy="tinytl")


def _lite_residual(x, output, block, seed):
    height, width, channels = output.shape[1:]
    hidden = max(8, x.shape[-1] // 8 * 8)
    y = keras.layers.AveragePooling2D(2, padding="same", name=f"{block}.lite.pool")(x)
    y = keras.layers.Concatenate(name=f"{block}.lite.groups")([*_convolved_groups(y, hidden // GROUPS, block, seed)])
    y = keras.layers.ReLU(6.0, name=f"{block}.lite1.relu")(y)
    y = keras.layers.Conv2D(channels, 1, kernel_initializer="zeros", name=f"{block}.lite2")(y)
    return keras.layers.Resizing(height, width, interpolation="bilinear", name=f"{block}.lite.resize")(y)


def _convolved_groups(x, filters, block, seed):
    """A convolution for each group: one with groups=2 has a gradient on a CPU only through XLA, three times as slow."""
    size = x.shape[-1] // GROUPS
    for group in range(GROUPS):
        initializer = keras.initializers.HeNormal(seed=GROUPS * seed + group)
        convolution = keras.layers.Conv2D(
            filters, KERNEL, padding="same", kernel_initializer=initializer, name=f"{block}.lite1.{group}"
        )
        yield convolution(x[..., group * size : (group + 1) * size])


def _block(name):
    """ "b3" of "b3.pw1"; "" for layers outside the blocks."""
    block = name.partition(".")[0]
    return block if block[:1] == "b" and block[1:].isdigit() else ""


def _is_lite(name):
    return ".lite" in name
