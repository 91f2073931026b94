"""What a model's output stands for in a task: classes by softmax, one sigmoid unit, logits, or an embedding."""

import keras

from keras_tinytrain.model.ending import backbone_text, ending, num_outputs
from keras_tinytrain.model.head import classifier_head

KINDS = ("prototypes", "softmax", "sigmoid", "logits")


def head_kind(model: keras.Model, num_classes: int | None, head: str = "auto") -> str:
    """What the output of `model` stands for, one of `KINDS`; each has a loss of its own.

    - "softmax": probabilities of the classes.
    - "sigmoid": one unit, the probability (or the logit) of class 1 of two.
    - "logits": one value for each class, without an activation.
    - "prototypes": an embedding. A class is then the mean embedding of its samples.

    Where neither softmax nor sigmoid ends the model, its last Dense layer gives logits if it has as many units as there are
    classes (or one unit for two classes); else the output is an embedding.

    Args:
        model: a built Functional or Sequential model with one input; nested models are entered.
        num_classes: of the task; None where it is not known, and then a Dense layer at the end gives an embedding.
        head: "auto" finds the kind; a kind is checked. "softmax" may also be said of logits: a softmax is taken to follow.

    Raises:
        ValueError: the output is no vector, is not what `head` says, or has another number of classes than the task.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> head_kind(model, 3), head_kind(model, 5)
        ('logits', 'prototypes')
    """
    if head not in ("auto", *KINDS):
        raise ValueError(f"head expects one of {', '.join(KINDS)}, auto. Received: {head!r}")
    width, end = num_outputs(model), ending(model)
    kind = head if head != "auto" else end or _without_ending(model, width, num_classes)
    if kind == "prototypes":
        _check_prototypes(model, width, end)
    elif kind == "sigmoid":
        _check_sigmoid(model, width, end, num_classes)
    else:
        _check_classes(model, width, end, num_classes, kind)
    return kind


def _without_ending(model, width, num_classes):
    if num_classes is None or classifier_head(model) is None:
        return "prototypes"
    if (width, num_classes) == (1, 2):
        return "sigmoid"
    return "logits" if width == num_classes else "prototypes"


def _check_prototypes(model, width, end):
    if end == "softmax":
        raise ValueError(
            f"Model '{model.name}' ends in a softmax, but head='prototypes' takes embeddings, as 'ridge' does. Pass "
            f"{_backbone(model)}, or head='softmax'."
        )
    if width == 1:
        raise ValueError(
            f"Model '{model.name}' gives one number, which is no embedding: the cosine of two numbers is 1 or -1. Pass "
            f"{_backbone(model)}; or, where the number tells class 1 from class 0, head='sigmoid'."
        )


def _check_sigmoid(model, width, end, num_classes):
    if end == "softmax":
        raise ValueError(f"Model '{model.name}' ends in a softmax: it has head='softmax'. Received: head='sigmoid'")
    if width != 1:
        raise ValueError(
            f"Model '{model.name}' ends in {width} units, each a label of its own with head='sigmoid'; expected one unit for two "
            f"classes. For one class a sample end it in {_softmax(num_classes)}; if the units are an embedding, say head='prototypes'."
        )
    if num_classes not in (None, 2):
        raise ValueError(
            f"Model '{model.name}' ends in one sigmoid unit, which tells class 1 from class 0, but the samples have {num_classes} "
            f"classes. End it in {_softmax(num_classes)}, or pass the backbone in front of it: {_backbone(model)}."
        )


def _check_classes(model, width, end, num_classes, kind):
    if end and end != kind:
        raise ValueError(f"Model '{model.name}' ends in a {end}: it has head='{end}'. Received: head='{kind}'")
    if num_classes not in (None, width):
        what = f"a softmax over {width}" if end else f"logits of {width}"
        raise ValueError(
            f"Model '{model.name}' ends in {what} classes, but the samples have {num_classes}. Give samples of each of its classes "
            f"and of no other, or pass the backbone in front of the head: {_backbone(model)}."
        )


def _backbone(model):
    return f"`{backbone_text(model)}` (on the command line: --without-head)"


def _softmax(num_classes):
    return f"Dense({num_classes or 'number of classes'}, activation='softmax')"
