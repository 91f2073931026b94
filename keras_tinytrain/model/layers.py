"""The layers of a Keras model as an ordered table: kind, block, shapes, multiply-accumulates, parameters, channel axis."""

import dataclasses
import functools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import keras

from keras_tinytrain.model._blocks import find_blocks, last_bottleneck
from keras_tinytrain.model._kinds import CHANNEL_AXIS, TRAINABLE_LAYERS, can_fuse, has_constant, kind_of, reads_input
from keras_tinytrain.model._macs import traced_macs
from keras_tinytrain.model.graph import Node, flatten, walk

FROZEN = "its trainable flag is False"  # the `reason` of a layer that its user has frozen
_MERGED = "a hard sigmoid follows, whose constant becomes part of its bias on the device"


@dataclasses.dataclass(frozen=True)
class LayerInfo:
    """One row of a layer table.

    Args:
        name: the layer's name in the user's model.
        kind: "conv", "depthwise" or "dense" for layers with channels; "add", "multiply", "concatenate", "pool",
            "max_pool", "activation", "batch_norm", "pad", "identity", "input" or "other" for the rest.
        block: number of the block it belongs to, from 0.
        inputs: indices of the rows it reads.
        input_shape: of its first input, without the batch axis.
        output_shape: without the batch axis.
        kernel_shape: as in Keras; () where it has none.
        has_bias: whether a bias per output channel follows the kernel.
        macs: multiply-accumulates of its forward pass on one sample.
        reason: why its weights cannot be trained here; "" where they can, or where it has none.
        can_fuse: whether the device's operator before it applies it, if it is an activation.
        left_out: why it is no candidate; "" where it is one, or where nobody has asked (see `choose.candidates`).
        reads_input: whether the gradient of an activation reads its input, not its output.
        strides: of a convolution, an axis each; () of other layers, or where nobody has said.
        padding: of a convolution, as in Keras; "" of other layers, or where nobody has said.
    """

    name: str
    kind: str
    block: int
    inputs: tuple[int, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    has_bias: bool
    macs: int
    reason: str
    can_fuse: bool = True
    left_out: str = ""
    reads_input: bool = False
    strides: tuple[int, ...] = ()
    padding: str = ""

    @property
    def has_channels(self) -> bool:
        return self.kind in CHANNEL_AXIS

    @property
    def trainable(self) -> bool:
        return self.has_channels and not self.reason

    @property
    def num_channels(self) -> int:
        return self.output_shape[-1]

    @property
    def num_weights(self) -> int:
        """Elements of the kernel (biases are not counted)."""
        return math.prod(self.kernel_shape) if self.kernel_shape else 0

    @property
    def weights_per_channel(self) -> int:
        return self.num_weights // self.num_channels

    @property
    def pointwise(self) -> bool:
        """Whether it looks at one position at a time: a dense layer, or a convolution of size 1."""
        return self.kind == "dense" or (self.kind == "conv" and set(self.kernel_shape[:-2]) == {1})


@dataclasses.dataclass(frozen=True, eq=False)  # compared and hashed by identity: costs are cached by table
class LayerTable:
    """The layers of one model in execution order. Indexing by name or by row number gives a `LayerInfo`."""

    model_name: str
    rows: tuple[LayerInfo, ...]

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key: str | int) -> LayerInfo:
        return self.rows[key if isinstance(key, int) else self.index(key)]

    @functools.cached_property
    def _index(self):
        return {row.name: index for index, row in enumerate(self.rows)}

    def index(self, name: str) -> int:
        if name in self._index:
            return self._index[name]
        raise ValueError(f"Model '{self.model_name}' has no layer '{name}'. Layers with channels: {self.names}")

    @property
    def weighted(self) -> tuple[LayerInfo, ...]:
        """Rows with channels (convolution, depthwise, dense), trainable or not."""
        return tuple(row for row in self.rows if row.has_channels)

    @property
    def names(self) -> list[str]:
        return [row.name for row in self.weighted]

    @functools.cached_property
    def last_bottleneck(self) -> int:
        """Number of the last block that is an inverted bottleneck; -1 where none is."""
        return last_bottleneck(self.rows, [row.block for row in self.rows])

    def downstream(self, names: Iterable[str]) -> tuple[bool, ...]:
        """Per row: does a tensor that depends on one of the layers `names` enter it?"""
        sources = {self.index(name) for name in names}
        tainted: list[bool] = []
        for row in self.rows:
            tainted.append(any(tainted[index] or index in sources for index in row.inputs))
        return tuple(tainted)

    def frozen(self, names: Collection[str] | Mapping[str, str]) -> "LayerTable":
        """This table without the layers `names` among those that can be trained; names that it does not have are ignored.

        Args:
            names: those that the user has frozen; or {name: why it cannot be trained}.
        """
        reasons = names if isinstance(names, Mapping) else dict.fromkeys(names, FROZEN)
        rows = (dataclasses.replace(row, reason=row.reason or reasons.get(row.name, "")) for row in self.rows)
        return LayerTable(self.model_name, tuple(rows))

    def candidates(self, last_blocks: int = 6, *, layers: Sequence[str] | None = None) -> tuple[LayerInfo, ...]:
        """Trainable rows to choose from.

        Args:
            last_blocks: how many blocks at the end of the network. The head, which is all that follows the last block and has
                1x1 convolutions and dense layers only, is included and not counted. In a network of dense layers alone, each is
                a block.
            layers: names; these layers instead of the last blocks.

        Raises:
            ValueError: a named layer does not exist or cannot be trained, or nothing can.
        """
        if layers is not None:
            rows = tuple(self[name] for name in layers)
            if not all(row.trainable for row in rows):
                raise ValueError(f"Layers that cannot be trained here: {_refused(rows)}")
        else:
            blocks = self.body_blocks
            first = blocks[-last_blocks] if 0 < last_blocks <= len(blocks) else 0
            rows = tuple(row for row in self.rows if row.block >= first and row.trainable)
        if not rows:
            refused = _refused(row for row in self.rows if row.reason)
            raise ValueError(
                f"Model '{self.model_name}' has no trainable layer, one of {TRAINABLE_LAYERS}"
                + (f": {refused}" if refused else ".")
            )
        return rows

    @functools.cached_property
    def body_blocks(self) -> list[int]:
        """Numbers of the blocks with a convolution, up to the last that has more than 1x1 convolutions.

        Where no layer is a convolution, those with a dense layer.
        """
        convolutions = {row.block for row in self.rows if row.kind in ("conv", "depthwise")}
        blocks = sorted(convolutions or {row.block for row in self.weighted})
        spatial = [row.block for row in self.rows if row.has_channels and not row.pointwise]
        return [block for block in blocks if not spatial or block <= max(spatial)]


def _refused(rows):
    return ", ".join(f"'{row.name}' ({row.reason or 'it has no channels'})" for row in rows if not row.trainable)


def layer_table(model: keras.Model) -> LayerTable:
    """The table of a built Functional or Sequential model with one input; nested models are flattened.

    Raises:
        ValueError: the model is not built, subclassed, has several inputs or a layer that is called twice.
    """
    nodes = walk(flatten(model))
    rows = [_row(node, nodes) for node in nodes]
    for node, row in zip(nodes, rows):
        if has_constant(node.layer) and rows[row.inputs[0]].has_channels:
            rows[row.inputs[0]] = dataclasses.replace(rows[row.inputs[0]], reason=_MERGED)
    blocks = find_blocks(rows)
    return LayerTable(model.name, tuple(dataclasses.replace(row, block=block) for row, block in zip(rows, blocks)))


def _row(node: Node, nodes: Sequence[Node]) -> LayerInfo:
    layer, output_shape = node.layer, _shape(node.output, node.layer)
    input_shape = _shape(nodes[node.inputs[0]].output, node.layer) if node.inputs else output_shape
    kind = kind_of(layer)
    kernel_shape = tuple(layer.kernel.shape) if kind in CHANNEL_AXIS else ()
    return LayerInfo(
        name=layer.name,
        kind=kind,
        block=0,
        inputs=node.inputs,
        input_shape=input_shape,
        output_shape=output_shape,
        kernel_shape=kernel_shape,
        has_bias=bool(kernel_shape) and bool(layer.use_bias),
        macs=_macs(node, nodes, kind, kernel_shape),
        reason=_reason(layer, kind),
        can_fuse=can_fuse(layer),
        reads_input=reads_input(layer),
        strides=tuple(layer.strides) if kind in ("conv", "depthwise") else (),
        padding=layer.padding if kind in ("conv", "depthwise") else "",
    )


def _shape(tensor, layer):
    shape = tuple(tensor.shape[1:])
    if None in shape:
        raise ValueError(
            f"Layer '{layer.name}' has a tensor of unknown shape {tuple(tensor.shape)}. "
            "Give the model an input of fixed height and width: keras.Input(shape=(height, width, channels))."
        )
    return shape


def _reason(layer, kind):
    """Why the weights of this layer cannot be trained here; "" where they can, or where it has none."""
    if kind == "other" and getattr(layer, "weights", []):
        return f"{type(layer).__name__}; channels are trained in {TRAINABLE_LAYERS} layers"
    if kind not in CHANNEL_AXIS:
        return ""
    if reason := kernel_reason(layer):
        return reason
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "data_format is channels_first; rebuild it with channels_last"
    if kind == "conv" and layer.groups != 1:
        return f"grouped convolution (groups={layer.groups}); use groups=1 or DepthwiseConv2D"
    if kind == "depthwise" and layer.depth_multiplier != 1:
        return f"depth_multiplier={layer.depth_multiplier}; use 1"
    if kind != "dense" and set(layer.dilation_rate) != {1}:
        return f"dilation_rate={tuple(layer.dilation_rate)}; use 1"
    return ""


def kernel_reason(layer: keras.layers.Layer) -> str:
    """Why the kernel of a layer with channels is no variable that can be trained; "" where it is one."""
    if getattr(layer, "lora_enabled", False):
        return "LoRA is enabled, so its kernel is a sum; save the weights, which merges it, and load them into a layer without"
    if getattr(layer, "quantization_mode", None):
        return f"its kernel is quantized to {layer.quantization_mode}; use the layer as it was before quantize()"
    return ""


def _macs(node: Node, nodes: Sequence[Node], kind: str, kernel_shape: tuple[int, ...]) -> int:
    """Positions of the output times kernel elements (a depthwise or grouped kernel holds its reduced depth already)."""
    if kind == "other":
        return traced_macs([nodes[index].output for index in node.inputs], node.output)
    if kind not in CHANNEL_AXIS:
        return 0
    positions = nodes[node.inputs[0]].output if kind == "dense" else node.output
    return math.prod(positions.shape[1:-1]) * math.prod(kernel_shape)
