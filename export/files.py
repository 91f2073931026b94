"""Step 4 of an export: what is written? Every file of a bundle as bytes, and the manifest with their checksums."""

import dataclasses
import hashlib
import json
import typing

from keras_tinytrain.export import _library_zip
from keras_tinytrain.export._project import project_files, sketch_files
from keras_tinytrain.export.backward.memory import closed_form_of
from keras_tinytrain.export.bundle_folder import MANIFEST, SCHEMA_VERSION, manifest_digest
from keras_tinytrain.export.conversion import Converted
from keras_tinytrain.export.layout import Layout
from keras_tinytrain.export.manifest_schema import DIGEST
from keras_tinytrain.export.page import teach_page
from keras_tinytrain.export.request import ExportRequest
from keras_tinytrain.export.tables import bounds_of, choice_of, render_sources
from keras_tinytrain.export.templates import identifier, render
from keras_tinytrain.export.tflite.flatbuffer import operator_names


@dataclasses.dataclass(frozen=True, eq=False)
class BundleFiles:
    """The files of a bundle.

    Args:
        contents: {path below the bundle's folder: bytes}, without the manifest.
        facts: what the manifest says, without the checksums.
    """

    contents: dict[str, bytes]
    facts: dict[str, typing.Any]

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of every file."""
        return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(self.contents.items())}

    @property
    def manifest(self) -> dict[str, typing.Any]:
        """The content of manifest.json."""
        manifest = {**self.facts, "files": self.digests}
        return {**manifest, DIGEST: manifest_digest(manifest)}

    @property
    def all_contents(self) -> dict[str, bytes]:
        """`contents` and the manifest."""
        return {**self.contents, MANIFEST: (json.dumps(self.manifest, indent=1) + "\n").encode()}

    def __str__(self) -> str:
        sizes = "\n".join(f"  {len(data):>9,} B  {name}" for name, data in self.all_contents.items())
        return f"Bundle '{self.facts['name']}', {sum(map(len, self.all_contents.values())):,} B in all\n{sizes}"


def render_files(request: ExportRequest, converted: Converted, layout: Layout) -> BundleFiles:
    """The texts and models of a bundle. Raises ImportError where jinja2 is not installed."""
    facts = _facts(request, converted, layout)
    sources = _sources(request, converted, layout)
    texts = _texts(sources, facts, str(layout.time or ""))
    contents = {"trainable.tflite": layout.trainable, "plan.json": request.plan.to_json().encode(), **texts}
    return BundleFiles(contents | ({"frozen.tflite": converted.frozen} if converted.frozen else {}), facts)


def _sources(request: ExportRequest, converted: Converted, layout: Layout) -> dict[str, str]:
    return render_sources(
        layout.graph,
        name=request.out.name,
        frozen=converted.frozen,
        trainable=layout.trainable,
        base_hash=converted.base_hash,
        head=request.head,
        settings=request.training,
        views=request.views,
        arenas={
            **layout.arenas,
            "model_arena": layout.sram["model_arena"],
            "training_arena": layout.room.arena_bytes,
            "scratch": layout.room.scratch_bytes,
            "image_scratch": layout.memory.frozen["image"],
            "page_bytes": request.board.flash_page_bytes,
            "feature_flash": layout.flash["features"],
            "delta_flash": layout.flash["deltas"],
        },
        adaptive=layout.adaptive,
        closed_form=layout.memory.closed_form,
        bounds=bounds_of(request),
        choice=choice_of(request),
        prototype_training=request.prototype_training,
    )


def _facts(request: ExportRequest, converted: Converted, layout: Layout) -> dict[str, typing.Any]:
    graph, output = layout.graph, layout.graph.tensors[-1]
    return {
        "keras_tinytrain_bundle": SCHEMA_VERSION,
        "name": request.out.name,
        "namespace": identifier(request.out.name),
        "board": dataclasses.asdict(request.board),
        "base_hash": converted.base_hash.hex(),
        "head": request.head,
        "class_names": list(request.device.class_names),
        "sample_values": {"scale": request.device.scale, "offset": request.device.offset},
        "input": converted.input,
        "output": {"size": output.size, "scale": output.scale, "zero_point": output.zero_point},
        "features": {"size": graph.num_stored, "memory": request.features},
        "trained": {trained.name: len(trained.channels) for trained in graph.trained or graph.candidates},
        "adaptive": layout.adaptive,
        "weights_in_ram": [dataclasses.asdict(choice) for choice in layout.in_ram],
        "operators": sorted(operator_names(converted.frozen) | operator_names(layout.trainable)),
        "layers": list(request.layer_names),
        "training": dataclasses.asdict(request.training),
        "views": [list(view) for view in request.views],
        "sketch": request.sketch,
        "project": request.project,
        "sram": layout.sram,
        "arenas": layout.arenas,
        "scratch": layout.scratch,
        "flash": layout.flash,
        "time": layout.time and layout.time.to_json(),
        "activation_gradients_bound": graph.gradient_bytes_bound,
        "activation_gradients_whole": graph.gradient_bytes_whole,
        **({} if request.maps is None else {"closed_form": _closed_form(request, layout)}),
    }


def _closed_form(request: ExportRequest, layout: Layout) -> dict[str, typing.Any]:
    """What a closed-form head reads: names of layers, elements of a row's parts; and the bytes of the trainer's scratch."""
    maps = list(typing.cast(tuple[str, ...], request.maps))
    return {
        "maps": maps,
        "stored_maps": [name for name, index in zip(maps, layout.graph.maps, strict=True) if layout.graph.is_stored_map(index)],
        "parts": list(closed_form_of(layout.graph).parts),
        "scratch_bytes": layout.room.scratch_bytes,
        "reject_unknown": request.device.reject_unknown,
        "choice": choice_of(request),
    }


def _texts(sources: dict[str, str], facts: dict[str, typing.Any], in_time: str) -> dict[str, bytes]:
    """Generated files: the sources, the sketch with the sources, the pages, and the library with the project as its example.

    `in_time` says how long the board takes; "" where that is not known.
    """
    texts = {name: text.encode() for name, text in sources.items()}
    learner = texts | {"learner.h": render("learner.h.j2", **facts).encode()}
    sketch = {f"sketch/{name}": text for name, text in sketch_files(facts, learner).items()}
    library = _library_zip.library_zip(facts["namespace"], project_files(facts, learner))
    pages = {"README.md": render("README.md.j2", **facts, in_time=in_time), teach_page.FILE: teach_page.teach_page(facts)}
    return {**texts, **sketch, **{name: page.encode() for name, page in pages.items()}, _library_zip.FILE: library}
