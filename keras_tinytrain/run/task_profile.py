"""Where a task's cycles go on the emulated board: by function, by kind of work, by layer."""

import dataclasses
import re
import typing

from keras_tinytrain.choose.forward_work import Work, operator_work
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.layer_names import layer_name
from keras_tinytrain.export.tflite.micro_graph import micro_graph
from keras_tinytrain.run.profiler import Profiler

FORWARD = {"frozen_forward": "frozen", "trainable_forward": "trainable"}  # kind of work: the bundle's model
_BY_ROW = ("selection", "backward", "update")  # kinds whose steps are rows in the table of layers
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
    return len(_row_names(bundle))


def task_profile(profiler: Profiler, bundle: Bundle, calls: dict[str, int], *, estimated: bool) -> TaskProfile:
    """What the profiler counted, with names.

    Args:
        calls: number of forward passes by kind.
        estimated: whether the host ran them.
    """
    layers = {kind: _named(kind, steps, bundle) for kind, steps in profiler.kinds().items()}
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


def _named(kind: str, steps: dict[int, Work], bundle: Bundle) -> dict[str, Work]:
    names = _row_names(bundle) if kind in _BY_ROW else []
    if kind in FORWARD and getattr(bundle, FORWARD[kind]) is not None:
        names = _operator_names(getattr(bundle, FORWARD[kind]))
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


def _row_names(bundle: Bundle) -> list[str]:
    """The layer of each row in the tables; some stand for an activation's layer, whose convolution they are."""
    rows = (bundle.path / "tables.cpp").read_text(encoding="utf-8").partition("kLayers[] = {")[2].partition("\n};")[0]
    return _ROW_NAME.findall(rows)
