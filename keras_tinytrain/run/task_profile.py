"""Where a task's cycles go on the emulated board: by function, by kind of work, by layer."""

import dataclasses
import pathlib
import re
import typing

from keras_tinytrain.choose.forward_work import Work, operator_work
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.read_tables import ReadTables
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.layer_names import layer_name
from keras_tinytrain.export.tflite.micro_graph import micro_graph
from keras_tinytrain.run.profiler import Profiler

FORWARD = {"frozen_forward": "frozen", "trainable_forward": "trainable"}  # kind of work: the bundle's model
_ROW_NAME = re.compile(r"^    // \d+: (.+)$", re.MULTILINE)  # as templates/tables.cpp.j2 writes it
_ALL = "all layers"  # what belongs to no layer of its own


@dataclasses.dataclass(frozen=True)
class TaskProfile:
    """Work on the board; forward passes that the host ran are estimated.

    Args:
        functions: by function, without its callees, in decreasing order of instructions; not those that the host ran.
        layers: {kind of work, a key of `run.profiler.KINDS`: {layer: work}}, layers in execution order.
    """

    functions: dict[str, Work]
    layers: dict[str, dict[str, Work]]

    @property
    def kinds(self) -> dict[str, Work]:
        """{kind of work: work}."""
        return {kind: sum(layers.values(), Work()) for kind, layers in self.layers.items()}

    def cycles_per_instruction(self, kind: str) -> float:
        """Of a kind of work; of all work where the task had none of this kind."""
        work = self.kinds.get(kind, Work())
        work = work if work.instructions else sum(self.functions.values(), Work())
        return work.cycles / max(1, work.instructions)

    def to_json(self) -> dict[str, typing.Any]:
        """{"functions": {name: instructions}, "kinds": {kind: work}, "layers": {kind: {layer: work}}}; cycles with each work."""
        return {
            "functions": {name: work.instructions for name, work in self.functions.items()},
            "kinds": {kind: dataclasses.asdict(work) for kind, work in self.kinds.items()},
            "layers": {
                kind: {layer: dataclasses.asdict(work) for layer, work in layers.items()}
                for kind, layers in self.layers.items()
            },
        }


def num_rows(bundle: Bundle) -> int:
    """Layers in the bundle's tables."""
    return len(_row_names(bundle.path / "tables.cpp"))


def task_profile(profiler: Profiler, bundle: Bundle, calls: dict[str, int], *, estimated: bool) -> TaskProfile:
    """What the profiler counted, with names.

    Args:
        calls: number of forward passes by kind.
        estimated: whether the host ran them.
    """
    rows = _row_names(bundle.path / "tables.cpp")
    names = {"update": rows} | dict.fromkeys(("selection", "backward"), _interiors_joined(rows, bundle))
    names |= {kind: _operator_names(model) for kind in FORWARD if (model := getattr(bundle, FORWARD[kind])) is not None}
    layers = {kind: _named(steps, names.get(kind, [])) for kind, steps in profiler.kinds().items()}
    if estimated:
        layers |= {kind: _estimated(kind, bundle, calls[kind]) for kind in FORWARD}
    return TaskProfile(profiler.functions(), {kind: found for kind, found in layers.items() if found})


def forward_layers(bundle: Bundle, kind: str) -> dict[str, Work]:
    """An estimate of one forward pass: {layer: work} in execution order; {} where there is no such part."""
    return _estimated(kind, bundle, 1)


def _estimated(kind: str, bundle: Bundle, calls: int) -> dict[str, Work]:
    model, kernels = getattr(bundle, FORWARD[kind]), bundle.manifest["board"].get("kernels", "arduino")
    if model is None:
        return {}
    operators = [operator for _, operator in micro_graph(model).operators]
    return _summed(
        (name, operator_work(op, kernels) * calls) for name, op in zip(_operator_names(model), operators, strict=True)
    )


def _named(steps: dict[int, Work], names: list[str]) -> dict[str, Work]:
    return _summed((names[step] if step < len(names) else _ALL, work) for step, work in steps.items())


def _summed(named: typing.Iterable[tuple[str, Work]]) -> dict[str, Work]:
    """Work of layers of one name is added up."""
    found: dict[str, Work] = {}
    for name, work in named:
        found[name] = found.get(name, Work()) + work
    return found


def _operator_names(model_bytes: bytes) -> list[str]:
    """The layer of each operator, in execution order; parts of a split layer have no name of their own, and go by the next one's."""
    model = fb.read_model(model_bytes)
    names: list[str] = []
    for operator in reversed(model.subgraphs[0].operators):
        names.append(layer_name(model, int(operator.outputs[0])) or (names[-1] if names else _ALL))
    return names[::-1]


def _row_names(source: pathlib.Path) -> list[str]:
    """The layer of each row in tables.cpp; some stand for an activation's layer, whose convolution they are."""
    rows = source.read_text(encoding="utf-8").partition("kLayers[] = {")[2].partition("\n};")[0]
    return _ROW_NAME.findall(rows)


def _interiors_joined(names: list[str], bundle: Bundle) -> list[str]:
    """The layers of a bottleneck interior take turns in the backward pass, channel by channel: they have one name together."""
    read = ReadTables(bundle.path / "tables.cpp", bundle.trainable)
    tensors = read.array(read.tables.tensors, "Tensor", read.tables.num_tensors)
    goes_on = [
        tensors[layer.output].num_planes > 0 for layer in read.array(read.tables.layers, "Layer", read.tables.num_layers)
    ]
    joined: list[str] = []
    for first, name in enumerate(names):
        last = goes_on.index(False, first)
        begins = first == 0 or not goes_on[first - 1]
        joined.append(joined[-1] if not begins else name if last == first else f"{name} to {names[last]}")
    return joined
