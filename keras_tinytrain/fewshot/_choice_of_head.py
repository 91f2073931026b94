"""Which head answers where the user names none: the closed-form head, or cosine to prototypes."""

import numpy as np

from keras_tinytrain.fewshot._ridge_head import RidgeHead
from keras_tinytrain.fewshot.prototypes import leave_one_out_logits
from keras_tinytrain.fewshot.ridge import leave_one_out

_SURE = 1.28  # standard deviations that chance exceeds in one of ten cases


def closed_form_holds(original: RidgeHead, *, in_time: bool) -> bool:
    """Whether the closed-form head gets no fewer samples right than cosine to prototypes, each sample left out in turn.

    It is the original network's head that is asked. The trained network has seen every sample: with it, the prototypes get
    nearly all of them right, on tasks too whose other samples favour the closed form (docs/results/accuracy.md). Windows in time
    keep the prototypes where the closed form is better by no more than chance: on one of two sets of motions it is worse. By
    McNemar's test (Psychometrika 1947), b samples that only one head gets right and c that only the other does differ by
    (b - c) / sqrt(b + c) standard deviations.

    The only sample of a class is not counted. Where each class has one sample, nothing can be left out: images take the closed
    form, windows in time the prototypes.

    Args:
        original: the head, solved for its samples by the original network.
        in_time: whether the network reads windows in time.

    Raises:
        ValueError: the head does not know its samples.
    """
    features, labels = original.support()
    known = labels < original.num_classes
    features, labels = features[known], labels[known]
    counted = np.bincount(labels)[labels] > 1
    embeddings = np.asarray(features[:, -original.sizes[-1] :], np.float32)
    cosines = leave_one_out_logits(embeddings, embeddings, np.eye(original.num_classes, dtype=np.float32)[labels])
    solved, cosine = (
        np.argmax(scores, axis=1)[counted] == labels[counted]
        for scores in (leave_one_out(features, labels, original.num_classes, original.sizes), np.asarray(cosines))
    )
    won, lost = np.sum(solved & ~cosine), np.sum(cosine & ~solved)
    return bool(won - lost > _SURE * np.sqrt(won + lost) if in_time else won >= lost)
