"""How do I learn from a handful of samples? Prototypes, augmented views, and a few training steps on a few channels."""

import typing

from keras_tinytrain._public import lazy_names

if typing.TYPE_CHECKING:
    from keras_tinytrain.fewshot._evaluation import Evaluation
    from keras_tinytrain.fewshot.adaptation import adapt, classifier_from_delta, one_class_classifier, prototype_classifier
    from keras_tinytrain.fewshot.augmentation import default_shifts, fixed_views, shift_views
    from keras_tinytrain.fewshot.classifier import FewShotClassifier
    from keras_tinytrain.fewshot.prototype_head import PrototypeHead, UpdatePrototypes
    from keras_tinytrain.fewshot.task_loss import choose_for_task, classifier_and_loss, head_for

_HOMES = {
    "Evaluation": "_evaluation",
    "FewShotClassifier": "classifier",
    "PrototypeHead": "prototype_head",
    "UpdatePrototypes": "prototype_head",
    "adapt": "adaptation",
    "choose_for_task": "task_loss",
    "classifier_and_loss": "task_loss",
    "classifier_from_delta": "adaptation",
    "default_shifts": "augmentation",
    "fixed_views": "augmentation",
    "head_for": "task_loss",
    "one_class_classifier": "adaptation",
    "prototype_classifier": "adaptation",
    "shift_views": "augmentation",
}
__all__ = [
    "Evaluation",
    "FewShotClassifier",
    "PrototypeHead",
    "UpdatePrototypes",
    "adapt",
    "choose_for_task",
    "classifier_and_loss",
    "classifier_from_delta",
    "default_shifts",
    "fixed_views",
    "head_for",
    "one_class_classifier",
    "prototype_classifier",
    "shift_views",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
