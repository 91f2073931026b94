"""One training of `benchmark fit`: a backbone with a new head, fitted by one method."""

import dataclasses
import time

import keras
import numpy as np

from keras_tinytrain.backbones.images import network_images
from keras_tinytrain.benchmark import allocator
from keras_tinytrain.benchmark.batch_norms import with_batch_norm
from keras_tinytrain.benchmark.fit_methods import FitMethod, find_fit_method
from keras_tinytrain.benchmark.fit_split import train_and_test
from keras_tinytrain.benchmark.networks import find_network
from keras_tinytrain.choose import paper_cost
from keras_tinytrain.data import load_domain
from keras_tinytrain.fit.callback import TinyTrainCallback
from keras_tinytrain.model.layers import layer_table

_CALIBRATION = 128  # samples from which BatchNorm's statistics are taken


@dataclasses.dataclass(frozen=True)
class Fit:
    """All that one training depends on.

    Args:
        backbone: a key of `networks.NETWORKS`.
        weights: a file, or "" for the backbone's own.
        domain: as `data.load_domain` takes it.
        seed: of the split, the head's first weights and the order of the samples.
        method: a key of `fit_methods.METHODS`.
        learning_rate: Adam's.
        epochs, batch_size: of `fit`.
    """

    backbone: str
    weights: str
    domain: str
    seed: int
    method: str
    learning_rate: float
    epochs: int
    batch_size: int


def run_fit(fit: Fit, *, count_memory: bool = True) -> dict:
    """The result of one training, as the columns `fit.RESULTS`.

    Args:
        count_memory: whether to tell the most bytes that TensorFlow and the cache of features held during `fit`, in a process
            whose allocator counts every byte (see `allocator.run_elsewhere`); "" otherwise.

    Returns:
        {"accuracy": on the test samples, "trained_weights", "seconds": of `fit` alone, "peak_bytes"}.
    """
    x, y, test_x, test_y = _samples(fit)
    method = find_fit_method(fit.method)
    model = classifier(fit, method, x, int(y.max()) + 1)
    callback = TinyTrainCallback(method.budget, cache_frozen=True, verbose=0) if method.trains == "plan" else None
    if count_memory:
        allocator.check_allocator()
        allocator.forget_peak()
    start = time.perf_counter()
    model.fit(x, y, epochs=fit.epochs, batch_size=fit.batch_size, callbacks=[callback] if callback else [], verbose=0)
    seconds, cache = time.perf_counter() - start, callback and callback.cache
    peak = allocator.peak_bytes() + (cache.num_bytes if cache else 0) if count_memory else ""
    accuracy = model.evaluate(test_x, test_y, verbose=0, return_dict=True)["accuracy"]
    weights = _trained_weights(model, callback)
    return {"accuracy": accuracy, "trained_weights": weights, "seconds": round(seconds, 2), "peak_bytes": peak}


def classifier(fit: Fit, method: FitMethod, x: np.ndarray, num_classes: int) -> keras.Model:
    """The backbone with a new dense head, compiled with Adam.

    XLA is off: it is several times slower on depthwise convolutions on a CPU.
    """
    keras.utils.set_random_seed(fit.seed)
    backbone = find_network(fit.backbone).build(fit.weights)
    if method.batch_norm:
        backbone = with_batch_norm(backbone, x[:: max(1, len(x) // _CALIBRATION)])
    backbone.trainable = method.trains != "head"
    model = keras.Sequential([backbone, keras.layers.Dense(num_classes, activation="softmax", name="classes")])
    optimizer = keras.optimizers.Adam(fit.learning_rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return model


def _samples(fit):
    domain, shape = load_domain(fit.domain), find_network(fit.backbone).build(fit.weights).input_shape[1:]
    images, labels = network_images(domain.images, shape), np.unique(domain.labels, return_inverse=True)[1]
    train, test = train_and_test(domain, seed=fit.seed)
    return images[train], labels[train], images[test], labels[test]


def _trained_weights(model, callback):
    """Kernel elements, as everywhere; of BatchNorm none."""
    if callback is not None and callback.plan is not None:
        return paper_cost.num_trained_weights(layer_table(model), paper_cost.num_channels(callback.plan))
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables if len(variable.shape) > 1)
