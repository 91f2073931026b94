"""Few-shot domains: labelled images from which tasks are drawn."""

from keras_tinytrain.domains.digits import load_digits
from keras_tinytrain.domains.domain import Domain, resize
from keras_tinytrain.domains.npz import load_npz

__all__ = ["Domain", "load_digits", "load_npz", "resize"]
