"""How do I learn from a handful of samples? Prototypes, augmented views, and a few training steps on a few channels."""

import typing

from keras_tinytrain._public import lazy_names

if typing.TYPE_CHECKING:
    from keras_tinytrain.fewshot.adaptation import adapt, classifier_from_delta, prototype_classifier
    from keras_tinytrain.fewshot.augmentation import fixed_views, shift_views
    from keras_tinytrain.fewshot.classifier import FewShotClassifier
    from keras_tinytrain.fewshot.prototype_head import PrototypeHead, UpdatePrototypes

_HOMES = {
    "FewShotClassifier": "classifier",
    "PrototypeHead": "prototype_head",
    "UpdatePrototypes": "prototype_head",
    "adapt": "adaptation",
    "classifier_from_delta": "adaptation",
    "fixed_views": "augmentation",
    "prototype_classifier": "adaptation",
    "shift_views": "augmentation",
}
__all__ = [
    "FewShotClassifier",
    "PrototypeHead",
    "UpdatePrototypes",
    "adapt",
    "classifier_from_delta",
    "fixed_views",
    "prototype_classifier",
    "shift_views",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
