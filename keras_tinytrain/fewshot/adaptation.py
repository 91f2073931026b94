"""Adapt a backbone to a handful of labelled samples: prototypes, augmented views, a few training steps on a few channels."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from keras_tinytrain._kinds import check_kind
from keras_tinytrain._old_names import last_blocks_or_layers, old_keywords
from keras_tinytrain.choose.planner import choose, summed_cross_entropy
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.delta import Delta
from keras_tinytrain.device_settings import AUTO, unsaid
from keras_tinytrain.fewshot._heads import HEADS, ORIGINAL, CosineHead, SoftmaxHead
from keras_tinytrain.fewshot._ridge_head import RidgeHead, threshold_in
from keras_tinytrain.fewshot._support import check_finite, check_shape, check_support
from keras_tinytrain.fewshot.adapter import Adapter
from keras_tinytrain.fewshot.augmentation import Augment, fixed_views, shift_views
from keras_tinytrain.fewshot.classifier import FewShotClassifier
from keras_tinytrain.fewshot.training import leave_one_out_losses, prototype_losses, softmax_losses, train
from keras_tinytrain.fewshot.unknown import KNOWN
from keras_tinytrain.model.channels import find_weights
from keras_tinytrain.model.ending import backbone_text, ending
from keras_tinytrain.model.head_kind import head_kind
from keras_tinytrain.plan import Budget, LayerPlan, Plan


def prototype_classifier(backbone: keras.Model, support_x: ArrayLike, support_y: ArrayLike) -> FewShotClassifier:
    """Classify by cosine to the class means of the support set, without any training."""
    adapter, head = _original(backbone, support_x, support_y)
    return FewShotClassifier(adapter, None, head, head)


def one_class_classifier(
    backbone: keras.Model,
    x: np.ndarray,
    *,
    false_alarms: float = 0.05,
    maps: Sequence[str] | None = None,
    unknown: np.ndarray | None = None,
) -> FewShotClassifier:
    """Tell what is normal from all else, after samples of normal: `predict` answers 0, or -1 for an anomaly. Nothing is trained.

    Args:
        backbone: images -> embeddings.
        x: float32 (N, ...), samples of normal, at least 2.
        false_alarms: fraction of normal samples that may be answered -1; estimated from the samples, each left out in turn.
        maps: as for `adapt`.
        unknown: samples (M, ...) of anomalies where there are some; with two or more, the fraction is that of missed anomalies.

    Raises:
        ValueError: the samples do not fit the backbone, contain NaN, or are too few.

    Example:
        >>> detector = one_class_classifier(backbone, normal)  # doctest: +SKIP
        >>> detector.familiarity(x)  # the lower, the more of an anomaly  # doctest: +SKIP
    """
    check_shape(backbone, x)
    check_finite(x)
    adapter, labels = Adapter.of(backbone), np.zeros(len(x), np.int64)
    head = CosineHead.of(adapter.features(adapter.trainable_part(Plan(())), x), labels, 1)
    learned = FewShotClassifier(adapter, None, head, head).with_ridge_head(np.asarray(x), labels, maps=maps, unknown=unknown)
    learned.reject_unknown(false_alarms)
    return learned


@old_keywords(inspect=last_blocks_or_layers)
def adapt(
    backbone: keras.Model,
    support_x: ArrayLike,
    support_y: ArrayLike,
    *,
    budget: Budget | None = None,
    plan: Plan | None = None,
    iterations: int | None = None,
    learning_rate: float = 3e-3,
    stop_loss: float = 0.0,
    skip_loss: float = 0.0,
    late_prototypes: bool | None = None,
    shifts: Sequence[Sequence[int]] = (),
    augment: Augment | None = None,
    num_views: int = 4,
    head: str = AUTO,
    maps: Sequence[str] | None = None,
    unknown: np.ndarray | None = None,
    only_if_needed: bool = False,
    average: float = 0.5,
    leave_one_out: bool = True,
    seed: int = 0,
    **choice_options: Any,
) -> FewShotClassifier:
    """Learn a task from its support set. `backbone` itself is not changed.

    Each iteration embeds all samples with the present weights; prototypes are their class means (no gradient through them).
    The queries are the next view of every sample. One Adam step follows, on the mean cross-entropy of softmax(10 * cos).
    Dropout is off and BatchNorm in inference mode. The device's runtime does the same. The frozen part runs once per view.
    The compiled functions of a backbone are kept for its next task.

    Args:
        backbone: images -> embeddings.
        support_x: float32 (N, height, width, channels).
        support_y: int (N,), classes 0..K-1, each at least once.
        budget: memory and compute to choose within; None: Budget("256KB").
        plan: train this plan instead of choosing one.
        iterations: optimizer steps. None: 10 with head "ridge", and with "auto" on images; else 40, the paper's
            (`device_settings.unsaid`).
        learning_rate: Adam's.
        stop_loss: training ends after an iteration whose mean loss is below.
        skip_loss: a sample whose own loss is below has no gradient in that iteration; on the device it has no backward pass.
        late_prototypes: prototypes, and each query's own sample, are embeddings of the iteration before, and of its views; the
            first iteration has none and embeds the samples. Each sample then runs through the trainable part once, not twice.
            None: with head "ridge", and with "auto" on images.
        shifts: (dy, dx) or (dy, dx, mirrored), one per view, see `augmentation.shift_views`; sequences (N, T, C) move in time, by
            dx. With neither `shifts` nor `augment` the images themselves are the queries.
        augment: views by other means, see `augmentation.fixed_views`: "photo", "ink", a Keras layer, or a function of images.
        num_views: of `augment`; they are drawn once, so the frozen part still runs once per view.
        head: "ridge", the closed-form head on pooled maps (`FewShotClassifier.with_ridge_head`; ridge regression as in R2-D2,
            Bertinetto et al., ICLR 2019), solved after training, which is that of "prototypes", cosine to the class means. "auto"
            is "ridge" unless, of the original network, it gets fewer samples right than "prototypes", each sample left out in
            turn (windows in time: unless it gets more right by more than chance); the classifier's `head` says which. "softmax"
            is a dense layer that starts from the prototypes and is trained too (`heads.SoftmaxHead`). With plan=Plan(()) nothing
            is trained.
        maps: of "ridge": names of the layers that it reads; None finds them.
        unknown: of "ridge": samples (M, ...) of no class, see `FewShotClassifier.reject_unknown`.
        only_if_needed: of "ridge": train nothing where the closed-form head of the original network gets every sample right
            that is left out of its solution; the classifier's plan is then None.
        average: weight of the original network's cosine logits in each answer, a fraction of 1; 0 for none.
        leave_one_out: leave a query's own sample out of its class's prototype in the loss. Fisher scores, as published, do not.
        seed: of views and of strategies that draw.
        choice_options: of `planner.choose`: strategy, last_blocks, layers, kinds, accounting, rule.

    Raises:
        ValueError: the samples do not fit the backbone, contain NaN, or are of one class; the backbone's output is a map, a
            sequence or a softmax; or the budget is too small.
    """
    if head not in (*HEADS, AUTO):
        raise ValueError(f"Expected head of {sorted((*HEADS, AUTO))}. Received: {head!r}")
    if not 0 <= average < 1:
        raise ValueError(f"Expected average in [0, 1). Received: {average!r}")
    given = [
        name
        for name, value in (("maps", maps), ("unknown", unknown), ("only_if_needed", only_if_needed or None))
        if value is not None
    ]
    if given and head != RidgeHead.NAME:
        raise ValueError(f"{', '.join(given)}: read by head='ridge' alone. Received: head={head!r}")
    check_kind("late_prototypes", late_prototypes, bool, type(None))
    check_kind("iterations", iterations, int, type(None))
    if iterations is not None and not 0 <= iterations < 2**31:
        raise ValueError(f"Expected a number of iterations, below 2^31 and 0 or more. Received: {iterations}")
    for name, value in (("learning rate", learning_rate), ("stop_loss", stop_loss), ("skip_loss", skip_loss)):
        check_kind(name, value, float)
        if not 0 <= value < math.inf:
            raise ValueError(f"Expected a {name}, finite and 0 or more. Received: {value}")
    if ending(backbone) == "softmax":
        raise ValueError(
            f"Model '{backbone.name}' ends in a softmax, and adapt takes embeddings: pass {backbone_text(backbone)}. The classifier "
            "itself learns in Keras, with TinyTrainCallback."
        )
    adapter, original = _original(backbone, support_x, support_y)
    support_x = np.asarray(support_x, np.float32)
    chosen = head == AUTO
    if only_if_needed or chosen:
        untrained = FewShotClassifier(adapter, None, original, original)
        untrained = untrained.with_ridge_head(support_x, support_y, maps=maps, unknown=unknown)
        if only_if_needed and untrained.leave_one_out == 1:
            return untrained
        if chosen:
            head = RidgeHead.NAME if untrained.closed_form_holds else CosineHead.NAME
    usual_iterations, usually_late = unsaid(head, chosen=chosen, in_time=adapter.in_time)
    iterations = usual_iterations if iterations is None else iterations
    late_prototypes = usually_late if late_prototypes is None else late_prototypes
    views = _views(support_x, shifts, augment, num_views, seed)
    if plan is None:
        accounting = DeviceAccounting(num_samples=len(support_x), num_views=len(views), num_classes=original.num_classes)
        options = {"accounting": accounting, "seed": seed, **choice_options}
        x, prototypes = views[0] if len(views) else support_x, original.prototypes
        scorer = functools.partial(adapter.fisher, x, support_y, prototypes)
        loss = summed_cross_entropy(support_y)
        plan = choose(adapter.classifier(prototypes), x, loss, budget or Budget("256KB"), scorer=scorer, **options)
    objective = softmax_losses if head == "softmax" else leave_one_out_losses if leave_one_out else prototype_losses
    settings = {"iterations": iterations, "learning_rate": learning_rate, "stop_loss": stop_loss, "skip_loss": skip_loss}
    late = late_prototypes and head != "softmax"
    learned = _learn(adapter, plan, original, support_x, support_y, views, objective, average, late, **settings)
    return learned.with_ridge_head(support_x, support_y, maps=maps, unknown=unknown) if head == RidgeHead.NAME else learned


def classifier_from_delta(
    backbone: keras.Model, delta: Delta, *, average: float = 0.5, maps: Sequence[str] | None = None
) -> FewShotClassifier:
    """The classifier that `delta` was taken from, on a copy of `backbone`.

    Args:
        backbone: the one that the delta was learned on.
        delta: of a `FewShotClassifier`.
        average: as for `adapt`; used only where the delta holds the original network's head.
        maps: as for `adapt`.

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
    head, start = (_head(adapter, records, "", maps) for records in (new, old or new))
    if head is None:
        raise ValueError("The delta holds no prototypes: it does not come from `adapt`. Use delta.apply(model).")
    original = _head(adapter, new, ORIGINAL, maps)
    names = [KNOWN, *(prefix + kind.NAME for kind in HEADS.values() for prefix in ("", ORIGINAL))]
    layers = [record for name, record in new.items() if name not in names]
    plan = Plan(tuple(LayerPlan(record.name, record.channels) for record in layers)) if layers else None
    values = [value for record in layers for value in _values(adapter, record)]
    average, original = (0.0, start) if original is None else (average, original)
    if KNOWN in new and isinstance(original, RidgeHead):
        original = original.with_known(new[KNOWN])
    learned = FewShotClassifier(adapter, plan, head, original, start=start, values=values, average=average)
    if KNOWN in new:
        learned.threshold = threshold_in(new[KNOWN])
    return learned


def _head(adapter, records, prefix, maps):
    """The head among a delta's records; None where there is none."""
    kind = next((kind for kind in HEADS.values() if prefix + kind.NAME in records), None)
    if kind is None:
        return None
    if not issubclass(kind, RidgeHead):
        return kind.from_record(records[prefix + kind.NAME])
    maps = adapter.maps if maps is None else tuple(maps)
    return RidgeHead.from_record(records[prefix + kind.NAME], maps, adapter.sizes(maps))


def _original(backbone, x, y):
    """(the backbone's adapter, its head of prototypes) for samples that are checked here."""
    num_classes = check_support(backbone, x, y)
    head_kind(backbone, num_classes, "prototypes")
    adapter = Adapter.of(backbone)
    return adapter, CosineHead.of(adapter.features(adapter.trainable_part(Plan(())), x), y, num_classes)


def _views(x, shifts, augment, num_views, seed):
    """(V, N, ...) float32; V is 0 where the samples themselves are the queries."""
    if len(shifts) and augment is not None:
        raise ValueError("Give either `shifts` or `augment`, not both.")
    if len(shifts):
        return shift_views(x[:, None], shifts)[:, :, 0] if x.ndim == 3 else shift_views(x, shifts)  # sequences have height 1
    return x[None][:0] if augment is None else fixed_views(x, augment, num_views=num_views, seed=seed)


def _learn(adapter, plan, original, x, y, views, objective, average, late, **settings):
    """Train the channels of `plan`, and the head if it is trained, with one optimizer."""
    part = adapter.trainable_part(plan)
    features, channels = adapter.features(part, x), part.channels(plan)
    originals = part.originals(channels)
    start = original
    if objective is softmax_losses:
        start = SoftmaxHead.from_prototypes(original.prototypes, part.embed(features, channels, originals))
    trained: list[tf.Tensor] = [*originals, *start.tensors()]
    losses: list[float] = []
    if trained:
        queries = [adapter.features(part, view) for view in views] or [features]
        step = part.step(objective, start.SPECS, augmented=len(views) > 0)
        late_step = part.step(objective, start.SPECS, late=True) if late else None
        membership = np.eye(original.num_classes, dtype=np.float32)[np.asarray(y)]
        trained, losses = train(step, late_step, features, queries, membership, channels, trained, **settings)
    values, weights = trained[: len(originals)], trained[len(originals) :]
    head = start.trained(weights, part.embed(features, channels, values), y)
    return FewShotClassifier(adapter, plan, head, original, start=start, values=values, average=average, losses=losses)


def _values(adapter, record):
    """The tensors of a delta's record as `TrainablePart` takes them: kernel, then bias."""
    if record.values.dtype != np.float32:
        kind = record.values.dtype
        raise ValueError(f"Layer '{record.name}' holds {kind} values of a device; only the device can apply them.")
    weights = find_weights(adapter.model, record.name)
    shape = np.moveaxis(np.empty(weights.kernel.shape, np.int8), weights.axis, 0).shape[1:]
    kernel = np.moveaxis(record.values.reshape(-1, *shape), 0, weights.axis)
    return [tf.constant(kernel)] + ([tf.constant(record.biases)] if record.biases is not None else [])
