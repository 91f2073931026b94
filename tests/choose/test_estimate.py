"""The estimate before an export is never below the promise after it: whatever the network and the choice."""

import dataclasses
import functools
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from models import gated_net, images, joined_net, pooled_net, separable_net, sequence_net, tiny_net

from keras_tinytrain.choose.arena import KERNELS, arena_bytes
from keras_tinytrain.choose.backward_pass import interiors, place_gradients, values_read
from keras_tinytrain.choose.lifetimes import homes, table_steps
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.choose.table_graph import table_graph
from keras_tinytrain.export import Board, TrainingSettings, export_tflm
from keras_tinytrain.export.backward.graph import read_trainable
from keras_tinytrain.export.backward.memory import training_memory
from keras_tinytrain.export.backward.selected import choose_split
from keras_tinytrain.export.tflite.convert import convert_int8
from keras_tinytrain.export.tflite.cut import cut_model
from keras_tinytrain.export.tflite.micro_graph import micro_graph
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.model.split import latest_cut
from keras_tinytrain.plan import LayerPlan, Plan

ROOMY = Board("roomy", "any", 1, 2**24, 2**24, flash_page_bytes=4096)
WAYS = 3


def linear_net():
    """Convolutions without activation before max pooling; (N, 64, 64, 3) -> (N, 16) embeddings."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((64, 64, 3))
    for index in range(3):
        x = layers.Conv2D(16, 3, padding="same", name=f"conv_{index}")(x)
        x = layers.MaxPooling2D(2, name=f"max_{index}")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D(name="pool")(x))


@pytest.mark.parametrize("choice", [{"conv_0": 4}, {"conv_0": 4, "conv_1": 16}, {"conv_1": 8}], ids=str)
def test_inputs_of_max_pooling_are_counted(choice, tmp_path):
    model, accounting = linear_net(), DeviceAccounting(num_samples=4, num_classes=WAYS)
    plan = Plan(tuple(LayerPlan(name, tuple(range(count))) for name, count in choice.items()))
    training = TrainingSettings(num_classes=WAYS, max_samples=4)
    bundle = export_tflm(
        model, plan, calibration=images(model, 8), out=tmp_path / "net", board=ROOMY, training=training, head="prototypes"
    )
    estimated = accounting.memory_bytes(layer_table(fold_batch_norm(model)), choice)
    assert estimated >= bundle.promised_bytes["sram"]["total"]


BLOCKS = (
    "conv",
    "pointwise",
    "depthwise",
    "max",
    "average",
    "relu",
    "leaky",
    "swish",
    "excite",
    "join",
    "parametric",
    "residual",
    "forked",
    "shortcut",
    "bottleneck",
    "norm",
    "pad",
)


@dataclasses.dataclass(frozen=True)
class Block:
    """One block of a random network; a kind takes of the rest what it has."""

    kind: str
    channels: int
    stride: int
    activation: str | None
    use_bias: bool


@dataclasses.dataclass(frozen=True)
class Net:
    """A random network of the layers that the device can train through."""

    side: int
    blocks: tuple[Block, ...]
    end: str
    classes: int

    def build(self):
        keras.utils.set_random_seed(0)
        x = image = keras.Input((self.side, self.side, 2))
        x = layers.Conv2D(5, 3, padding="same", name="stem")(x)
        for block in self.blocks:
            x = block_output(block, x)
        x = {"mean": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D, "flat": layers.Flatten}[self.end]()(x)
        return keras.Model(image, layers.Dense(self.classes, name="logits")(x) if self.classes else x)


def block_output(block, x):
    kind, channels, relu = block.kind, block.channels, block.activation
    stride = block.stride if x.shape[1] >= 4 else 1
    conv = functools.partial(layers.Conv2D, padding="same", use_bias=block.use_bias)
    depthwise = functools.partial(layers.DepthwiseConv2D, 3, stride, padding="same", activation=relu)
    if kind == "conv":
        return conv(channels, 3, stride, activation=relu)(x)
    if kind == "pointwise":
        return conv(channels, 1, activation=relu)(x)
    if kind == "depthwise":
        return depthwise()(x)
    if kind == "max":
        return layers.MaxPooling2D(2, stride, padding="same")(x)
    if kind == "average":
        return layers.AveragePooling2D(2, stride, padding="same")(x)
    if kind == "relu":
        return layers.ReLU()(x)
    if kind == "leaky":
        return layers.LeakyReLU(0.2)(conv(channels, 1)(x))
    if kind == "swish":
        return layers.Activation("hard_silu" if block.activation else "silu")(conv(channels, 3)(x))
    if kind == "excite":
        gate = conv(x.shape[-1], 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
        return layers.Multiply()([x, gate])
    if kind == "join":
        return layers.Activation(relu)(layers.Concatenate()([x, conv(channels, 1, activation=relu)(x)]))
    if kind == "parametric":
        return layers.PReLU(shared_axes=[1, 2])(layers.Dense(channels, activation="tanh")(x))
    if kind == "residual":
        return layers.Add()([x, conv(x.shape[-1], 3, activation=relu)(x)])
    if kind == "forked":  # the ReLU cannot be fused: its input is read once more
        return layers.Add()([x, layers.ReLU(6.0)(x)])
    if kind == "norm":
        return layers.ReLU()(layers.BatchNormalization()(conv(channels, 3)(x)))
    if kind == "pad":
        return layers.Conv2D(channels, 3, stride, activation=relu)(layers.ZeroPadding2D(1)(x))
    y = depthwise()(conv(3 * channels, 1, activation=relu)(x))
    if kind == "shortcut":
        return layers.Add()([conv(channels, 1, stride)(x), conv(channels, 1)(y)])
    y = conv(x.shape[-1], 1)(y)
    return layers.Add()([x, y]) if stride == 1 else y


blocks = st.builds(
    Block,
    kind=st.sampled_from(BLOCKS),
    channels=st.sampled_from([3, 8]),
    stride=st.sampled_from([1, 2]),
    activation=st.sampled_from([None, "relu", "relu6"]),
    use_bias=st.booleans(),
)
nets = st.builds(
    Net,
    side=st.sampled_from([8, 13]),
    blocks=st.lists(blocks, min_size=1, max_size=5).map(tuple),
    end=st.sampled_from(["mean", "max", "flat"]),
    classes=st.sampled_from([0, 6]),
)
accountings = st.builds(
    DeviceAccounting,
    optimizer=st.sampled_from(["sgd", "momentum", "adam", "adam_per_channel"]),
    weights=st.sampled_from(["float_masters", "int8"]),
    num_samples=st.sampled_from([1, 4]),
    num_views=st.sampled_from([0, 2]),
    num_classes=st.sampled_from([2, 7]),
    features=st.sampled_from(["ram", "flash"]),
    kernels=st.sampled_from(sorted(KERNELS)),
)


def without_bias(table):
    return [row.name for row in table if not row.has_bias]


def draw_choice(data, model):
    table = layer_table(fold_batch_norm(model))
    names = data.draw(st.lists(st.sampled_from(table.names), min_size=1, max_size=3, unique=True))
    return {name: data.draw(st.integers(1, table[name].num_channels)) for name in sorted(names, key=table.index)}


@pytest.mark.slow
@settings(max_examples=8 if settings().derandomize else 25, deadline=None)  # in CI the same ones each time: fewer say as much
@given(net=nets, accounting=accountings, data=st.data())
def test_estimate_is_never_below_the_promise(net, accounting, data):
    """With TensorFlow Lite Micro's own bookkeeping and the scratch of each library's kernels."""
    model = fold_batch_norm(net.build())
    table, choice = layer_table(model), draw_choice(data, model)
    plan = Plan(tuple(LayerPlan(name, tuple(range(count))) for name, count in choice.items()))
    frozen, trainable, operators = cut_model(convert_int8(model, images(model, 8)), model, plan)
    trainable, graph = read_trainable(trainable, operators, plan, without_bias=without_bias(table))
    exported = training_memory(
        graph,
        TrainingSettings(
            accounting.optimizer, accounting.weights, num_classes=accounting.num_classes, max_samples=accounting.num_samples
        ),
        head="prototypes",
        image_bytes=math.prod(model.input_shape[1:]),
        num_views=accounting.num_views,
        features=accounting.features,
    )
    cut = latest_cut([row.inputs for row in table], table.index(next(iter(choice))))
    library = KERNELS[accounting.kernels]
    graphs = table_graph(table, 0, cut + 1), table_graph(table, cut, len(table), frozenset(choice))
    estimated = accounting.training(table, choice).sram(*(arena_bytes(graph, library) for graph in graphs), 0)
    arenas = (arena_bytes(micro_graph(part), library) if part else 0 for part in (frozen, trainable))
    promised = exported.sram(*arenas, 0)
    assert all(estimated[part] >= num_bytes for part, num_bytes in promised.items()), (estimated, promised)


@pytest.mark.parametrize("padding, stride", [("same", 2), ("valid", 1)])
@pytest.mark.parametrize("layer", [layers.Conv2D, layers.DepthwiseConv2D])
def test_windows_of_one_size_keep_their_own_strides(layer, padding, stride):
    """Of 4 values a window of 3 makes 2 either way; ESP-NN needs more memory where windows reach beyond the input."""
    channels = {"filters": 8} if layer is layers.Conv2D else {}
    last = layer(kernel_size=3, strides=stride, padding=padding, **channels)
    model = keras.Sequential([keras.Input((4, 4, 16)), layers.Conv2D(16, 1), last])
    estimated, exported = table_graph(layer_table(model), 0, 3), micro_graph(convert_int8(model, images(model, 8)))
    (_, one), (_, other) = estimated.operators[-1], exported.operators[-1]
    assert one == other and one.strides == (stride, stride)


@functools.cache
def _converted(build):
    model = fold_batch_norm(build())
    return convert_int8(model, images(model, 8))


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("build", [tiny_net, separable_net, pooled_net, linear_net, sequence_net, gated_net, joined_net])
def test_parts_are_those_of_the_exported_graph(build, split):
    """The layer table and the exported graph fill one formula; only gradients may be estimated too high, of additions."""
    model = fold_batch_norm(build())
    table = layer_table(model)
    choice = {name: max(1, table[name].num_channels // 2) for name in table.names[1::2]}
    plan = Plan(tuple(LayerPlan(name, tuple(range(count))) for name, count in choice.items()))
    _, trainable, operators = cut_model(_converted(build), model, plan)
    trainable, graph = read_trainable(trainable, operators, plan, without_bias=without_bias(table))
    _, graph, _ = choose_split(trainable, graph, model_arena=len, only=split)
    accounting = DeviceAccounting(num_samples=4, num_views=1, num_classes=WAYS)
    pixels = int(np.prod(model.input_shape[1:]))
    exported = training_memory(
        graph, TrainingSettings(num_classes=WAYS, max_samples=4), head="prototypes", image_bytes=pixels, num_views=1
    )
    estimated = accounting.training(table, choice, split=split)
    assert (estimated.state, estimated.frozen) == (exported.state, exported.frozen)
    gradients = estimated.training["activation_gradients"], exported.training["activation_gradients"]
    assert gradients[0] >= gradients[1] and (gradients[0] == gradients[1] or build is tiny_net)
    assert {**estimated.training, "activation_gradients": gradients[1]} == exported.training


@pytest.mark.parametrize("build", [tiny_net, separable_net, pooled_net, linear_net, sequence_net, gated_net, joined_net])
def test_kept_values_and_gradients_are_those_of_the_exported_graph(build):
    model = fold_batch_norm(build())
    table = layer_table(model)
    for name in table.names:
        plan = Plan((LayerPlan(name, (0,)),))
        _, trainable, operators = cut_model(_converted(build), model, plan)
        _, graph = read_trainable(trainable, operators, plan)
        kept = [tensor.size for tensor in graph.tensors if tensor.kept > graph.head_output]
        steps = table_steps(table, [name])
        features = homes(table)[latest_cut([row.inputs for row in table], table.index(name))]
        read = values_read(steps) - {steps[-1].output, features}
        assert sorted(kept) == sorted(np.prod(table[home].output_shape) for home in read)
        shapes = {home: table[home].output_shape for home in homes(table)}
        planes = interiors(steps, shapes)
        assert sorted(planes.values()) == sorted(tensor.num_planes for tensor in graph.tensors if tensor.num_planes)
        assert place_gradients(steps, shapes, planes).num_bytes == graph.gradient_bytes
