"""What is in a Keras model? Its graph, its layers, the canonical form, and where it can be cut in two."""

import typing

from keras_tinytrain._public import lazy_names

if typing.TYPE_CHECKING:
    from keras_tinytrain.model.files import load_model
    from keras_tinytrain.model.fold import canonical_form, fold_batch_norm
    from keras_tinytrain.model.head import classifier_head
    from keras_tinytrain.model.keras_package import copy_weights, twin
    from keras_tinytrain.model.layers import LayerInfo, LayerTable, layer_table
    from keras_tinytrain.model.split import split_model

_HOMES = {
    "LayerInfo": "layers",
    "LayerTable": "layers",
    "canonical_form": "fold",
    "classifier_head": "head",
    "copy_weights": "keras_package",
    "fold_batch_norm": "fold",
    "layer_table": "layers",
    "load_model": "files",
    "split_model": "split",
    "twin": "keras_package",
}
__all__ = [
    "LayerInfo",
    "LayerTable",
    "canonical_form",
    "classifier_head",
    "copy_weights",
    "fold_batch_norm",
    "layer_table",
    "load_model",
    "split_model",
    "twin",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
