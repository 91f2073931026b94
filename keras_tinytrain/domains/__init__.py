"""Few-shot domains: labelled images from which tasks are drawn."""

from keras_tinytrain.domains.digits import load_digits
from keras_tinytrain.domains.domain import Domain, every_second_class, resize
from keras_tinytrain.domains.folder import load_folder
from keras_tinytrain.domains.load import load_domain
from keras_tinytrain.domains.npz import load_npz

__all__ = ["Domain", "every_second_class", "load_digits", "load_domain", "load_folder", "load_npz", "resize"]
