"""Adapt a backbone to a handful of labelled samples: prototypes, augmented views, a few training steps on a few channels."""

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain import planner
from keras_tinytrain.callback import TinyTrainCallback
from keras_tinytrain.delta import Delta, snapshot
from keras_tinytrain.device_cost import DeviceAccounting
from keras_tinytrain.fewshot.augmentation import shift_views
from keras_tinytrain.fewshot.head import PrototypeHead, UpdatePrototypes
from keras_tinytrain.graph import flatten, walk
from keras_tinytrain.plan import Budget, Plan
from keras_tinytrain.split import split_model


class FewShotClassifier:
    """A backbone with prototypes of the classes it was shown.

    Attributes:
        model: the keras model, images -> logits (N, num_classes).
        plan: what was trained; None where nothing was.
        delta: what was learned, prototypes included; None where nothing was trained.
        losses: training loss of every iteration.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.plan: Plan | None = None
        self.delta: Delta | None = None
        self.losses: list[float] = []

    def logits(self, x) -> np.ndarray:
        """float32 (N, num_classes)."""
        return self.model.predict(x, batch_size=256, verbose=0)

    def predict(self, x) -> np.ndarray:
        """Class of each sample, int64 (N,)."""
        return np.argmax(self.logits(x), axis=1)

    def evaluate(self, x, y) -> float:
        """Fraction of samples whose class is right."""
        return float(np.mean(self.predict(x) == np.asarray(y)))


def prototype_classifier(backbone: keras.Model, support_x, support_y, *, scale: float = 10.0) -> FewShotClassifier:
    """Classify by cosine to the class means of the support set, without any training. Shares the backbone's layers."""
    num_classes = check_support(backbone, support_x, support_y)
    head = PrototypeHead(num_classes, scale=scale)
    model = keras.Model(backbone.input, head(backbone.output), name=f"{backbone.name}_classifier")
    head.set_prototypes(backbone(support_x, training=False), support_y)
    return FewShotClassifier(model)


def adapt(
    backbone: keras.Model,
    support_x,
    support_y,
    *,
    budget: Budget | None = None,
    plan: Plan | None = None,
    iterations: int = 40,
    learning_rate: float = 3e-3,
    shifts=(),
    **choice_options,
) -> FewShotClassifier:
    """Learn a task from its support set. `backbone` itself is not changed.

    Each iteration: prototypes are the class means of the support embeddings with the weights as they are (no gradient
    through them); the queries are the support images shifted by the next of `shifts`; one Adam step on the mean cross-entropy of
    softmax(10 * cos). The device's runtime does the same. What lies before the earliest trained layer runs once per view.

    Args:
        backbone: images -> embeddings.
        support_x: float32 (N, height, width, channels).
        support_y: int (N,), classes 0..K-1, each at least once.
        budget: memory and compute to choose within.
        plan: train this plan instead of choosing one.
        iterations: optimizer steps.
        learning_rate: Adam's.
        shifts: (dy, dx) in pixels, one per view; () uses the images themselves.
        choice_options: of `planner.choose`: strategy, inspect, kinds, accounting, rule, seed.

    Raises:
        ValueError: the samples do not fit the backbone, contain NaN, or are of one class; or the budget is too small.
    """
    own = _copy(backbone)
    classifier = prototype_classifier(own, support_x, support_y)
    views = shift_views(support_x, shifts) if len(shifts) else np.asarray(support_x)[None]
    if plan is None:
        accounting = DeviceAccounting(num_samples=len(support_x), num_views=len(shifts), num_classes=int(np.max(support_y)) + 1)
        options = {"accounting": accounting, **choice_options}
        loss = planner.summed_cross_entropy(support_y)
        plan = planner.choose(classifier.model, views[0], loss, budget or Budget(), **options)
    classifier.plan = plan
    before = snapshot(classifier.model, classifier.plan)
    classifier.losses = _train(own, classifier, support_x, support_y, views, iterations, learning_rate)
    classifier.delta = Delta.between(before, classifier.model)
    return classifier


def classifier_from_delta(backbone: keras.Model, delta: Delta) -> FewShotClassifier:
    """A copy of `backbone` that answers as the classifier did from which `delta` was taken.

    Raises:
        ValueError: the delta was learned on another model, or holds no prototypes.
    """
    prototypes = [record for record in delta.records if record.name == "prototypes"]
    if not prototypes:
        raise ValueError("The delta holds no prototypes: it does not come from `adapt`. Use delta.apply(model).")
    own = _copy(backbone)
    head = PrototypeHead(len(prototypes[0].channels))
    model = keras.Model(own.input, head(own.output), name=f"{own.name}_classifier")
    delta.apply(model)
    classifier = FewShotClassifier(model)
    classifier.delta = delta
    return classifier


def check_support(backbone: keras.Model, x, y) -> int:
    """Number of classes of a support set. Raises ValueError where it cannot be learned from."""
    x, y = np.asarray(x), np.asarray(y)
    if x.shape[1:] != backbone.input_shape[1:]:
        raise ValueError(f"Samples have shape {x.shape[1:]}, model '{backbone.name}' expects {backbone.input_shape[1:]}.")
    if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"Expected one integer label for each of {len(x)} samples. Received: {y.dtype} of shape {y.shape}.")
    if not np.isfinite(x).all():
        bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
        raise ValueError(f"Samples {bad[:5].tolist()} contain NaN or infinity.")
    present = np.unique(y)
    if len(present) < 2:
        raise ValueError(f"Expected samples of at least two classes. Received labels {present.tolist()}.")
    if present.tolist() != list(range(len(present))):
        raise ValueError(f"Labels must be 0..K-1 with every class present. Received labels {present.tolist()}.")
    return len(present)


def _copy(model):
    """A flat copy with weights of its own."""
    model = flatten(model)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _train(own, classifier, support_x, support_y, views, iterations, learning_rate):
    """Fit the part behind the earliest trained layer on cached features; one epoch is one iteration. Returns the losses."""
    frozen, trainable = split_model(own, _earliest(own, classifier.plan))
    run_frozen = frozen.predict_on_batch if frozen else np.asarray
    head = classifier.model.get_layer("prototypes")
    model = keras.Model(trainable.input, head(trainable.output))
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    features = np.stack([run_frozen(np.asarray(view, np.float32)) for view in views])
    labels = np.broadcast_to(np.asarray(support_y, np.int32), features.shape[:2])
    data = tf.data.Dataset.from_tensor_slices((features, labels)).repeat()
    callbacks = [
        UpdatePrototypes(trainable, head, run_frozen(np.asarray(support_x, np.float32)), support_y),
        TinyTrainCallback(plan=classifier.plan, verbose=0),
    ]
    history = model.fit(data, steps_per_epoch=1, epochs=iterations, callbacks=callbacks, shuffle=False, verbose=0)
    return history.history["loss"]


def _earliest(model, plan):
    """Name of the layer of `plan` that comes first in the model."""
    order = [node.layer.name for node in walk(model)]
    return min((layer.name for layer in plan.layers), key=order.index)
