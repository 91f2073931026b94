"""The estimate before an export is never below the promise after it: whatever the network and the choice."""

import dataclasses
import functools
import pathlib
import tempfile

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from models import images

from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.export import Board, TrainingSettings, export_tflm
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import LayerPlan, Plan

ROOMY = Board("roomy", "any", 1, 2**24, 2**24, flash_page_bytes=4096)
WAYS = 3


def estimated_and_promised(model, choice, accounting=DeviceAccounting(num_samples=4, num_classes=WAYS)):
    """Bytes of SRAM, by part and in total: of the accounting on the layer table, and of the bundle."""
    plan = Plan(tuple(LayerPlan(name, tuple(range(count))) for name, count in choice.items()))
    training = TrainingSettings(
        accounting.optimizer, accounting.weights, num_classes=accounting.num_classes, max_samples=accounting.num_samples
    )
    views = tuple((0, shift) for shift in range(1, accounting.num_views + 1))
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_tflm(
            model,
            plan,
            calibration=images(model, 8),
            out=pathlib.Path(folder, "net"),
            board=ROOMY,
            training=training,
            views=views,
            features=accounting.features,
        )
    table = layer_table(fold_batch_norm(model))
    parts = accounting.parts(table, choice)
    return {**parts, "total": accounting.memory_bytes(table, choice)}, bundle.promised_bytes["sram"]


def linear_net():
    """Convolutions without activation before max pooling; (N, 64, 64, 3) -> (N, 16) embeddings."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((64, 64, 3))
    for index in range(3):
        x = layers.Conv2D(16, 3, padding="same", name=f"conv_{index}")(x)
        x = layers.MaxPooling2D(2, name=f"max_{index}")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D(name="pool")(x))


@pytest.mark.parametrize("choice", [{"conv_0": 4}, {"conv_0": 4, "conv_1": 16}, {"conv_1": 8}], ids=str)
def test_inputs_of_max_pooling_are_counted(choice):
    estimated, promised = estimated_and_promised(linear_net(), choice)
    assert estimated["total"] >= promised["total"]


BLOCKS = (
    "conv",
    "pointwise",
    "depthwise",
    "max",
    "average",
    "relu",
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
)


def draw_choice(data, model):
    table = layer_table(fold_batch_norm(model))
    names = data.draw(st.lists(st.sampled_from(table.names), min_size=1, max_size=3, unique=True))
    return {name: data.draw(st.integers(1, table[name].num_channels)) for name in sorted(names, key=table.index)}


@settings(max_examples=8, deadline=None)
@given(net=nets, accounting=accountings, data=st.data())
def test_estimate_is_never_below_the_promise(net, accounting, data):
    model = net.build()
    choice = draw_choice(data, model)
    estimated, promised = estimated_and_promised(model, choice, accounting)
    low = {part: (estimated[part], num_bytes) for part, num_bytes in promised.items() if estimated[part] < num_bytes}
    assert "total" not in low, low
