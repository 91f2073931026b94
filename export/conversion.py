"""Step 2 of an export: what runs on the device? The int8 models, and the trainable one as a graph to go through backwards."""

import dataclasses
import functools
import hashlib

from keras_tinytrain.export.backward.graph import TrainableGraph, read_trainable
from keras_tinytrain.export.bundle_folder import ModelInput
from keras_tinytrain.export.request import ENDS_IN_SOFTMAX, ExportRequest
from keras_tinytrain.export.tables import image_input
from keras_tinytrain.export.tflite import qat
from keras_tinytrain.export.tflite.convert import convert_int8
from keras_tinytrain.export.tflite.cut import cut_model


@dataclasses.dataclass(frozen=True, eq=False)
class Converted:
    """The int8 models of a request.

    Args:
        whole: the .tflite file before it was cut.
        frozen: its part before the first trained layer; None where nothing is frozen.
        trainable: the rest, with the activations that the backward pass needs as outputs.
        graph: of `trainable`.
    """

    whole: bytes
    frozen: bytes | None
    trainable: bytes
    graph: TrainableGraph

    @property
    def base_hash(self) -> bytes:
        """SHA-256 of the whole model: a delta fits however the model was cut."""
        return hashlib.sha256(self.whole).digest()

    @functools.cached_property
    def input(self) -> ModelInput:
        """How the models take an image."""
        return image_input(self.frozen or self.trainable)

    @property
    def image_bytes(self) -> int:
        """int8 values of one image."""
        return self.input["height"] * self.input["width"] * self.input["channels"]

    def __str__(self) -> str:
        trained = self.graph.trained or self.graph.candidates
        return (
            f"int8 model of {len(self.whole):,} B, SHA-256 {self.base_hash.hex()[:12]}\n"
            f"  frozen.tflite {len(self.frozen or b''):,} B, trainable.tflite {len(self.trainable):,} B\n"
            f"  backward through {len(self.graph.layers)} layers, {len(trained)} of them trained: "
            f"{', '.join(layer.name for layer in trained)}"
        )


def convert(request: ExportRequest, whole: bytes | None = None) -> Converted:
    """Quantise the model and cut it in two.

    Args:
        request: what to export.
        whole: `quantised(request)`, where it is there already.

    Raises:
        ValueError: TensorFlow cannot convert it, or the runtime cannot go backwards through a layer. The layer is named.
    """
    whole = quantised(request) if whole is None else whole
    frozen, trainable, operators = cut_model(
        whole, request.model, request.plan, split=request.split, maps=request.maps or (), stores_maps=request.stores_maps
    )
    trainable, graph = read_trainable(
        trainable,
        operators,
        request.plan,
        adaptive=request.adaptive,
        maps=request.maps or (),
        without_bias=request.without_bias,
        frozen=frozen,
    )
    return Converted(whole, frozen, trainable, graph)


def quantised(request: ExportRequest) -> bytes:
    """The whole int8 model, up to the embedding or the logits. Raises ValueError where TensorFlow cannot convert it."""
    if not qat.is_tf_keras(request.model):
        if request.calibration is None:
            raise ValueError(
                "calibration expects samples that show the model's ranges; only a quantisation-aware model knows them."
            )
        return convert_int8(request.model, request.calibration)
    whole = qat.convert_quantize_aware(request.model)
    if request.head == "prototypes" and qat.ends_in_softmax(whole):
        raise ValueError(ENDS_IN_SOFTMAX.format(request.model.name))
    return qat.without_softmax(whole)
