"""Adapt a backbone to a handful of labelled samples: prototypes, augmented views, a few training steps on a few channels."""

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.delta import Delta
from keras_tinytrain.device_cost import DeviceAccounting
from keras_tinytrain.fewshot.adapter import Adapter
from keras_tinytrain.fewshot.augmentation import fixed_views, shift_views
from keras_tinytrain.fewshot.classifier import FewShotClassifier
from keras_tinytrain.fewshot.heads import HEADS, ORIGINAL, CosineHead, SoftmaxHead
from keras_tinytrain.fewshot.prototypes import class_prototypes
from keras_tinytrain.fewshot.training import leave_one_out_loss, prototype_loss, softmax_loss, train
from keras_tinytrain.graph import find_layer
from keras_tinytrain.plan import Budget, LayerPlan, Plan
from keras_tinytrain.sparse import kernel_channel_axis


def prototype_classifier(backbone: keras.Model, support_x, support_y) -> FewShotClassifier:
    """Classify by cosine to the class means of the support set, without any training."""
    num_classes = check_support(backbone, support_x, support_y)
    adapter = Adapter.of(backbone)
    head = CosineHead(_class_means(adapter.features(adapter.tail(Plan(())), support_x), support_y, num_classes))
    return FewShotClassifier(adapter, None, head, head)


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
    augment=None,
    num_views: int = 4,
    head: str = "prototypes",
    average: float = 0.5,
    leave_one_out: bool = True,
    seed: int = 0,
    **choice_options,
) -> FewShotClassifier:
    """Learn a task from its support set. `backbone` itself is not changed.

    Each iteration: all samples are embedded with the weights as they are, and prototypes are their class means (no gradient
    through them); the queries are the next view of every sample; one Adam step on the mean cross-entropy of softmax(10 * cos).
    Dropout is off and BatchNorm in inference mode. The device's runtime does the same. What lies before the earliest trained
    layer runs once per view. What was compiled for a backbone is kept for its next task.

    Args:
        backbone: images -> embeddings.
        support_x: float32 (N, height, width, channels).
        support_y: int (N,), classes 0..K-1, each at least once.
        budget: memory and compute to choose within.
        plan: train this plan instead of choosing one.
        iterations: optimizer steps.
        learning_rate: Adam's.
        shifts: (dy, dx) in pixels, one per view; () and no `augment` uses the images themselves.
        augment: views by other means, see `augmentation.fixed_views`: "photo", "ink", a Keras layer, or a function of images.
        num_views: of `augment`, drawn once, so that the frozen part still runs once per view.
        head: "prototypes"; or "softmax", a dense layer that starts from the prototypes (`heads.SoftmaxHead`) and is trained too.
        average: weight of the original network's cosine logits beside the adapted network's when it answers; 0 for none.
        leave_one_out: leave a query's own sample out of its class's prototype in the loss. Fisher scores, as published, do not.
        seed: of views and of strategies that draw.
        choice_options: of `planner.choose`: strategy, inspect, kinds, accounting, rule.

    Raises:
        ValueError: the samples do not fit the backbone, contain NaN, or are of one class; or the budget is too small.
    """
    if head not in HEADS or not 0 <= average < 1:
        raise ValueError(f"Expected head of {sorted(HEADS)} and average in [0, 1). Received: {head!r} and {average!r}")
    start = prototype_classifier(backbone, support_x, support_y)
    adapter, original, support_x = start._adapter, start._head, np.asarray(support_x, np.float32)
    views = _views(support_x, shifts, augment, num_views, seed)
    if plan is None:
        accounting = DeviceAccounting(
            num_samples=len(support_x), num_views=len(views) if len(shifts) or augment is not None else 0, num_classes=start.num_classes
        )
        options = {"accounting": accounting, "seed": seed, **choice_options}
        plan = adapter.choose(views[0], support_y, original.prototypes, budget or Budget(), **options)
    objective = softmax_loss if head == "softmax" else leave_one_out_loss if leave_one_out else prototype_loss
    return _learn(adapter, plan, original, support_x, support_y, views, objective, average, iterations, learning_rate)


def classifier_from_delta(backbone: keras.Model, delta: Delta, *, average: float = 0.5) -> FewShotClassifier:
    """The classifier from which `delta` was taken, on a copy of `backbone`.

    Args:
        backbone: the one it was learned on.
        delta: of a `FewShotClassifier`.
        average: as it was given to `adapt`; it counts only where the delta holds the original network's prototypes.

    Raises:
        ValueError: the delta was learned on another model, holds no prototypes, or holds int8 values of a device.
    """
    adapter = Adapter.of(backbone)
    if delta.base_hash != adapter.hash:
        raise ValueError(
            f"This delta was learned on base model {delta.base_hash.hex()[:12]}, and '{backbone.name}' is "
            f"{adapter.hash.hex()[:12]}. Use the model it was learned on, unchanged."
        )
    new, old = ({record.name: record for record in records} for records in (delta.records, delta.previous))
    kind = next((kind for kind in HEADS.values() if kind.NAME in new), None)
    if kind is None:
        raise ValueError("The delta holds no prototypes: it does not come from `adapt`. Use delta.apply(model).")
    head, start = (kind.from_record(records[kind.NAME]) for records in (new, old or new))
    original = CosineHead.from_record(new[ORIGINAL]) if ORIGINAL in new else start
    layers = [record for name, record in new.items() if name not in (kind.NAME, ORIGINAL)]
    plan = Plan(tuple(LayerPlan(record.name, record.channels) for record in layers)) if layers else None
    values = [value for record in layers for value in _values(adapter, record)]
    return FewShotClassifier(
        adapter, plan, head, original, start=start, values=values, average=average if ORIGINAL in new else 0.0
    )


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


def _views(x, shifts, augment, num_views, seed):
    """(V, N, ...) float32."""
    if len(shifts) and augment is not None:
        raise ValueError("Give either `shifts` or `augment`, not both.")
    if len(shifts):
        return shift_views(x, shifts)
    return x[None] if augment is None else fixed_views(x, augment, num_views=num_views, seed=seed)


def _learn(adapter, plan, original, x, y, views, objective, average, iterations, learning_rate):
    tail, num_classes = adapter.tail(plan), len(original.prototypes)
    features, channels = adapter.features(tail, x), tail.channels(plan)
    values = originals = tail.originals(channels)
    start, losses, specs, weights = original, [], (), []
    if objective is softmax_loss:
        start, specs = SoftmaxHead.from_prototypes(original.prototypes, tail.embed(features, channels, originals)), SoftmaxHead.SPECS
        weights = [tf.constant(start.kernel.T), tf.constant(start.bias)]
    if values or weights:
        queries = adapter.features(tail, views.reshape(-1, *x.shape[1:])).reshape(len(views), *features.shape)
        membership = np.eye(num_classes, dtype=np.float32)[np.asarray(y)]
        trained, losses = train(
            tail.step(objective, specs), features, queries, membership, channels, [*originals, *weights],
            iterations=iterations, learning_rate=learning_rate,
        )  # fmt: skip
        values, weights = trained[: len(originals)], trained[len(originals) :]
    if objective is softmax_loss:
        head = SoftmaxHead(np.asarray(weights[0]).T, np.asarray(weights[1]))
    else:
        head = CosineHead(_class_means(tail.embed(features, channels, values), y, num_classes))
    return FewShotClassifier(adapter, plan, head, original, start=start, values=values, average=average, losses=losses)


def _values(adapter, record):
    """The tensors that `Tail` takes, of a delta's record: kernel, then bias."""
    if record.values.dtype != np.float32:
        raise ValueError(f"Layer '{record.name}' holds {record.values.dtype} values of a device; only the device can apply them.")
    layer = find_layer(adapter.model, record.name)
    axis = kernel_channel_axis(layer)
    shape = np.moveaxis(np.empty(layer.kernel.shape, np.int8), axis, 0).shape[1:]
    kernel = np.moveaxis(record.values.reshape(-1, *shape), 0, axis)
    return [tf.constant(kernel)] + ([tf.constant(record.biases)] if record.biases is not None else [])


def _class_means(embeddings, labels, num_classes):
    return np.asarray(class_prototypes(embeddings, labels, num_classes))
