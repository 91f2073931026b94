"""A model's head as the device computes it: prototypes of embeddings, or a softmax over logits."""

import dataclasses
import typing
from collections.abc import Sequence

import keras
import numpy as np

from keras_tinytrain.export.adaptive import Candidates
from keras_tinytrain.export.tflite import qat
from keras_tinytrain.model.ending import without_ending, without_normalisation
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.model.head import classifier_head
from keras_tinytrain.model.head_kind import head_kind
from keras_tinytrain.model.layers import LayerInfo, LayerTable, layer_table
from keras_tinytrain.model.maps import find_maps, with_maps
from keras_tinytrain.model.two_logits import int8_shift, two_logits
from keras_tinytrain.plan import LayerPlan, Plan

CLOSED_FORM = "ridge"  # prototypes while it trains; a closed-form head answers

_Plan = typing.TypeVar("_Plan", Plan, Candidates, Plan | Candidates)


def head_on_device(
    model: keras.Model,
    plan: _Plan,
    head: str,
    num_classes: int | None = None,
    calibration: np.ndarray | None = None,
    canonical: keras.Model | None = None,
) -> tuple[keras.Model, _Plan, str]:
    """The model that is converted, the plan for it, and the device's head: "prototypes" or "softmax".

    A softmax or a sigmoid at the end is removed. One sigmoid unit with the logit z becomes the logits (c, z + c), the second
    of which is trained: the same function, the same loss, the same steps (see `model.two_logits`).

    Args:
        model: as `export_tflm` takes it.
        plan: its layers and channels.
        head: as `model.head_kind` takes it, or "ridge": prototypes, beside which a closed-form head is solved.
        num_classes: of the task, for head="auto".
        calibration: samples that show the logit's range.
        canonical: `fold_batch_norm(model)`, where it is there already.

    Raises:
        ValueError: the model's output does not go with `head`.
    """
    head = "prototypes" if head == CLOSED_FORM else head
    if qat.is_tf_keras(model):
        return model, plan, _of_quantisation_aware(head)
    kind = head_kind(model, num_classes if head == "auto" else None, head)
    canonical = fold_batch_norm(model) if canonical is None else canonical
    if kind == "prototypes":
        return without_normalisation(canonical), plan, kind
    logits = without_ending(canonical)
    if kind == "sigmoid":
        logits, plan = _sigmoid(logits, plan, model, calibration)
    return logits, plan, "softmax"


def closed_form_maps(model: keras.Model, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the layers that a closed-form head reads in a canonical model: `names`, or those that `model.maps.find_maps` finds.

    A layer that computes nothing, such as a dropout, stands for its input.

    Raises:
        ValueError: there is no layer of a name, its output is no map, or the model is a quantisation-aware one, whose layers'
            names are not known.
    """
    if qat.is_tf_keras(model):
        raise ValueError("head='ridge' expects a Keras 3 model. Export a quantisation-aware one with head='prototypes'.")
    table = layer_table(model)
    if names:
        with_maps(model, names)  # which says what is wrong with a name
    rows = [table[table.index(name)] for name in names or find_maps(table)]
    return tuple(dict.fromkeys(_computed(table, row).name for row in rows))


def _computed(table: LayerTable, row: LayerInfo) -> LayerInfo:
    while row.kind == "identity":
        row = table[row.inputs[0]]
    return row


def _sigmoid(logit: keras.Model, plan: _Plan, model: keras.Model, calibration: np.ndarray | None) -> tuple[keras.Model, _Plan]:
    name = classifier_head(model)
    if name is None:
        raise ValueError(
            f"Model '{model.name}' has no Dense layer or convolution in front of its sigmoid unit, which the device needs: end it "
            "in Dense(2, activation='softmax')."
        )
    if isinstance(plan, Plan):
        plan = dataclasses.replace(
            plan, layers=tuple(_second_channel(layer) if layer.name == name else layer for layer in plan.layers)
        )
    shift = 0.0
    if calibration is not None and len(calibration) and np.shape(calibration)[1:] == logit.input_shape[1:]:
        shift = int8_shift(logit, name, np.asarray(calibration, np.float32))
    return two_logits(logit, name, shift), plan


def _second_channel(layer: LayerPlan) -> LayerPlan:
    return dataclasses.replace(layer, channels=(1,))


def _of_quantisation_aware(head):
    if head in ("auto", "sigmoid"):
        raise ValueError(
            f"A quantisation-aware model expects head='softmax' or 'prototypes'; end a binary one in Dense(2). Received: {head!r}"
        )
    return "softmax" if head == "logits" else head
