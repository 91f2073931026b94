"""`FewShotClassifier`: a backbone and the delta that it learned from a task."""

import dataclasses
import functools
import logging
import os
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from keras_tinytrain.data.labels import check_labels
from keras_tinytrain.delta import Delta, read_channels
from keras_tinytrain.fewshot._choice_of_head import closed_form_holds
from keras_tinytrain.fewshot._classifier_model import classifier_model
from keras_tinytrain.fewshot._evaluation import Evaluation
from keras_tinytrain.fewshot._heads import HEADS, ORIGINAL, Head
from keras_tinytrain.fewshot._ridge_head import RidgeHead
from keras_tinytrain.fewshot._support import check_finite, check_shape
from keras_tinytrain.fewshot.adapter import BATCH_SIZE, Adapter
from keras_tinytrain.fewshot.unknown import UNKNOWN, threshold
from keras_tinytrain.plan import Plan

_LOG = logging.getLogger(__name__)


class FewShotClassifier:
    """Images -> classes, learned by `adapt`.

    logits = (1 - average) * logits of the adapted network + average * 10 cos(z', c') of the original network, z' and c' being
    its own embedding and prototypes. The frozen part runs once for both.

    Attributes:
        plan: the trained channels; None where none were trained, and after a revert.
        delta: the learned values, prototypes included.
        losses: training loss of every iteration.
        average: weight of the original network, 0 for none.
        threshold: familiarity below which `predict` answers UNKNOWN, see `reject_unknown`; None for never.
        model: the same as one Keras model with weights of its own, images -> logits (N, num_classes).
    """

    def __init__(
        self,
        adapter: Adapter,
        plan: Plan | None,
        head: Head,
        original: Head,
        *,
        values: Sequence[tf.Tensor] = (),
        start: Head | None = None,
        average: float = 0.0,
        losses: Sequence[float] = (),
    ):
        self.plan, self.average, self.losses = plan, average, list(losses)
        self._adapter, self._part = adapter, adapter.trainable_part(plan or Plan(()), head.maps)
        self._channels = self._part.channels(plan or Plan(()))
        self._originals = self._part.originals(self._channels)
        self._values = list(values) or self._originals
        self._head, self._original, self._start = head, original, start or original
        self.threshold: float | None = None
        self._rate: float | None = None

    def __repr__(self) -> str:
        trained = ", ".join(f"{layer.name} {len(layer.channels)}" for layer in self.plan.layers) if self.plan else ""
        loss = f"; loss {self.losses[0]:.3g} to {self.losses[-1]:.3g}" if self.losses else ""
        return (
            f"<FewShotClassifier of {self.num_classes} classes; head {self.head}; trained channels: {trained or 'none'}{loss}>"
        )

    @property
    def head(self) -> str:
        """What answers, as `adapt` names it: "ridge", "prototypes" or "softmax"."""
        return next(name for name, kind in HEADS.items() if isinstance(self._head, kind))

    @property
    def num_classes(self) -> int:
        return self._original.num_classes

    @property
    def leave_one_out(self) -> float:
        """Accuracy on the support set, each sample answered by the closed-form head that is solved without it: a fraction of 1.

        Raises ValueError where the head is not the closed-form one; nan where it comes from a delta.
        """
        return _ridge(self._head).leave_one_out

    @property
    def closed_form_holds(self) -> bool:
        """Whether head="auto" takes the closed-form head, see `adapt`. Raises ValueError where it is not there or knows no samples."""
        return closed_form_holds(_ridge(self._original), in_time=self._adapter.in_time)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """float32 (N, num_classes). Raises ValueError where x is not (N, ...) of the network's input, or has NaN."""
        return self._both_logits(x, with_original=self.average > 0)[0]

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Class of each sample, int64 (N,); `unknown.UNKNOWN`, -1, where its familiarity is below `threshold`."""
        classes = np.argmax(self.logits(x), axis=1)
        return classes if self.threshold is None else np.where(self.familiarity(x) < self.threshold, UNKNOWN, classes)

    def familiarity(self, x: np.ndarray) -> np.ndarray:
        """How much each sample is like those of the class that is answered, float (N,), by the original network, see `unknown`:
        the adapted one has learned to tell the classes, so a class left out of its head is not unknown to it.

        Raises ValueError where the head is not the closed-form one, or holds no samples since it comes from a delta.
        """
        check_shape(self._adapter.model, x)
        check_finite(x)
        original, found = _ridge(self._original), [np.empty(0, np.float32)]
        for start in range(0, len(x), BATCH_SIZE):
            features = self._adapter.features(self._part, x[start : start + BATCH_SIZE])
            classes = np.argmax(self._batch_logits(x[start : start + BATCH_SIZE], self.average > 0)[0], axis=1)
            found.append(_of_classes(original.familiarity(self._embed(features, self._originals)), classes))
        return np.concatenate(found)

    def reject_unknown(self, rate: float = 0.05) -> float:
        """From now on `predict` answers UNKNOWN, -1, where a sample is of no class that was learned. Needs the closed-form head.

        Args:
            rate: fraction of samples of no class that may be taken for one, below 0.5. It is estimated from the support set:
                from each class, left out in turn, where there are three; else from the samples of no class where `adapt` had some
                (`unknown`). Where there are neither: fraction of samples of a class that may be answered UNKNOWN.

        Returns:
            The threshold of `familiarity`.

        Raises:
            ValueError: the head is another one or holds no samples, the rate is none, or there are too few samples.
        """
        original = _ridge(self._original)
        features, labels = original.support()

        def left_out(mask):
            head = original.without(mask)
            classes = np.argmax(head.logits(features[mask]), axis=1)
            return _of_classes(head.familiarity(features[mask]), classes)

        self.threshold, self._rate = threshold(labels, self.num_classes, rate, left_out), rate
        return self.threshold

    def evaluate(self, x: np.ndarray, y: ArrayLike, *, revert: bool = False) -> Evaluation:
        """Fraction of samples whose class is right; a float that also knows the accuracy `before` learning.

        Args:
            x, y: labelled samples that were not learned from.
            revert: True takes the learned weights back if the original network with its prototypes gets more of these samples
                right, and logs a warning. Do not report accuracy on the samples that you revert by.

        Raises:
            ValueError: the samples are not the network's, or y is not one of the classes for each of them.
        """
        check_labels(y, len(x), self.num_classes)
        correct = [np.mean(np.argmax(logits, axis=1) == np.asarray(y)) for logits in self._both_logits(x, with_original=True)]
        after, before = map(float, correct)
        if not revert or after >= before:
            return Evaluation(after, before=before)
        self.revert()
        _LOG.warning(
            "Learning made things worse on %d held-out samples, so it was reverted: accuracy %.3f, before learning %.3f. "
            "`plan` is None now: there is nothing to export.",
            len(x), after, before,
        )  # fmt: skip
        return Evaluation(before, before=before, reverted=True)

    def revert(self) -> None:
        """Take the learned values back: the original network and its prototypes answer, and `plan` is None. Added classes stay."""
        self.plan, self.average = None, 0.0
        self._values, self._head, self._start = self._originals, self._original, self._original
        self._heads_changed()

    def with_ridge_head(
        self, x: np.ndarray, y: ArrayLike, *, maps: Sequence[str] | None = None, unknown: np.ndarray | None = None
    ) -> "FewShotClassifier":
        """A classifier of the same learned weights that answers by the closed-form head, see `ridge`.

        Args:
            x, y: the support set; the heads of the adapted and of the original network are solved for it.
            maps: names of the layers whose outputs are pooled and read beside the embedding; None: see `model.maps.find_maps`.
            unknown: samples (M, ...) of no class, which are told from the classes.

        Raises:
            ValueError: the samples are not the network's, or a named layer has no map.
        """
        for samples in (x, x[:0] if unknown is None else unknown):
            check_shape(self._adapter.model, samples)
            check_finite(samples)
        if unknown is not None:
            x, y = np.concatenate([x, unknown]), np.append(y, np.full(len(unknown), self.num_classes))
        maps = self._adapter.maps if maps is None else tuple(maps)
        plan, sizes = self.plan or Plan(()), self._adapter.sizes(maps)
        part = self._adapter.trainable_part(plan, maps)
        features, channels = self._adapter.features(part, x), part.channels(plan)
        original, adapted = (
            RidgeHead.of(part.embed(features, channels, values), y, self.num_classes, maps, sizes)
            for values in (self._originals, self._values)
        )
        learned = FewShotClassifier(self._adapter, self.plan, adapted, original, values=self._values, average=self.average)
        learned.losses = self.losses
        return learned

    def add_class(self, x: np.ndarray) -> int:
        """Add a class by its samples x (N, ...), without a gradient: by their mean embedding, while the other classes do not
        change; the closed-form head is solved anew with them.

        Returns:
            Its index, K for the first that is added to K classes.

        Raises:
            ValueError: there is no sample, their shape is not the network's, or one holds NaN; or the closed-form head comes
                from a delta, which does not hold the other classes' samples.
        """
        expected = self._adapter.model.input_shape[1:]
        if len(x) == 0 or np.shape(x)[1:] != expected:
            raise ValueError(
                f"A new class expects samples (N, {', '.join(map(str, expected))}), N > 0. Received: {np.shape(x)}"
            )
        check_finite(x)
        features = self._adapter.features(self._part, x)
        adapted, original = (np.asarray(self._embed(features, values)) for values in (self._values, self._originals))
        self._head, self._original = self._head.with_class(adapted), self._original.with_class(original)
        self._start = self._start.with_class(original)
        self._heads_changed()
        return self.num_classes - 1

    @property
    def delta(self) -> Delta:
        """The learned values: trained channels, the head ("prototypes", "classes" or "ridge"), and the original network's ("original_...") if averaged."""
        old = read_channels(self._adapter.model, self.plan or Plan(()))
        new = tuple(map(self._learned_record, old))
        heads = self._head_records(self._head), self._head_records(self._start)
        return Delta(self._adapter.hash, new + heads[0], previous=old + heads[1])

    def save_delta(self, path: str | os.PathLike) -> int:
        """Write `delta` to a file, see `classifier_from_delta`. Returns its length in bytes."""
        return self.delta.save(path)

    @functools.cached_property
    def model(self) -> keras.Model:
        """The same classifier as a Keras model with weights of its own, built when first asked for."""
        sources = zip(self._part.sources, self._channels, self._values, strict=True)
        weights = [(source, np.asarray(source.merge(*pair))) for source, *pair in sources]
        original = self._original if self.average > 0 else None
        return classifier_model(self._adapter.network(self._head.maps), weights, self._head, original, self.average)

    def _head_records(self, head):
        """Of the adapted network's head and, if averaged, the original one's; with what the threshold needs where there is one."""
        pairs = [("", head)] + [(ORIGINAL, self._original)] * (self.average > 0)
        known = [] if self.threshold is None else [_ridge(self._original).known_record(self.threshold)]
        return (*(each.record(name + each.NAME) for name, each in pairs), *known)

    def _heads_changed(self):
        self.__dict__.pop("model", None)
        if self._rate is not None:
            self.reject_unknown(self._rate)

    def _both_logits(self, x, *, with_original):
        """(logits, the original network's logits) over batches; an empty one stays away from TensorFlow, whose oneDNN fails."""
        check_shape(self._adapter.model, x)
        check_finite(x)
        none = np.empty((0, self.num_classes), np.float32)
        batches = [np.asarray(x[start : start + BATCH_SIZE]) for start in range(0, len(x), BATCH_SIZE)]
        pairs = [(none, none), *(self._batch_logits(batch, with_original) for batch in batches)]
        return tuple(np.concatenate(parts) for parts in zip(*pairs))

    def _batch_logits(self, batch, with_original):
        features = self._adapter.features(self._part, batch)
        adapted = np.asarray(self._head.logits(self._embed(features, self._values)))
        if not with_original:
            return adapted, adapted
        original = np.asarray(self._original.logits(self._embed(features, self._originals)))
        if self.average == 0:
            return adapted, original
        return (1 - np.float32(self.average)) * adapted + np.float32(self.average) * original, original

    def _embed(self, features, values):
        return self._part.embed(features, self._channels, values)

    def _learned_record(self, record):
        """A record of the original network's channels, with the learned values."""
        learned = {}
        for source, value in zip(self._part.sources, self._values, strict=True):
            if source.layer == record.name:
                field, old = ("values", record.values) if source.part == "kernel" else ("biases", record.biases)
                learned[field] = np.moveaxis(np.asarray(value), source.axis, 0).reshape(old.shape)
        return dataclasses.replace(record, **learned)


def _ridge(head: Head) -> RidgeHead:
    if not isinstance(head, RidgeHead):
        raise ValueError(
            f"Unknown samples are told by the closed-form head, and this classifier has '{head.NAME}'. Call "
            "adapt(..., head='ridge'), or with_ridge_head(x, y)."
        )
    return head


def _of_classes(matrix, classes):
    return matrix[np.arange(len(classes)), classes]
