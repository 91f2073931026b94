"""A backbone made ready for many tasks: its copy, its scores and the trainable parts that were compiled so far."""

import functools
import weakref
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from keras_tinytrain.choose.fisher import activation_gradient_products, mean_squares
from keras_tinytrain.delta import model_hash
from keras_tinytrain.fewshot._trainable_part import TrainablePart
from keras_tinytrain.fewshot.prototype_head import PrototypeHead
from keras_tinytrain.fewshot.prototypes import SCALE, cosine_logits
from keras_tinytrain.model.fold import canonical_form
from keras_tinytrain.model.graph import flatten
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.model.maps import find_maps, in_time, with_maps
from keras_tinytrain.plan import Plan

BATCH_SIZE = 256
_ADAPTERS: "weakref.WeakKeyDictionary[keras.Model, Adapter]" = weakref.WeakKeyDictionary()


class Adapter:
    """Everything about a backbone that does not depend on a task; each part is made when it is first needed.

    The copy's weights never change, so the compiled functions serve every task, one after the other or in parallel.

    Args:
        backbone: images -> embeddings. It is copied.

    Attributes:
        model: the flat copy.
    """

    def __init__(self, backbone: keras.Model):
        self.model = copy_model(backbone)
        self._parts: dict[
            tuple, TrainablePart
        ] = {}  # {(maps, (name, whether its kernel is trained) of each trained layer): the part}
        self._with_maps: dict[tuple[str, ...], tuple[keras.Model, tuple[int, ...]]] = {}  # {maps: see `with_maps`}
        self._frozen: dict[int, Callable] = {}  # {id of its output tensor: the compiled frozen part}
        self._products: dict[tuple[str, ...], Callable] = {}  # {names of the scored layers: compiled gradients}
        self._classifiers: dict[int, tuple[PrototypeHead, keras.Model]] = {}  # {number of classes: head, model with it}

    @classmethod
    def of(cls, backbone: keras.Model) -> "Adapter":
        """The adapter of a backbone: the same one until its weights change."""
        adapter = _ADAPTERS.get(backbone)
        if adapter is None or not _same_weights(adapter.model, backbone):
            adapter = _ADAPTERS[backbone] = cls(backbone)
        return adapter

    def trainable_part(self, plan: Plan, maps: tuple[str, ...] | None = None) -> TrainablePart:
        """The layers from the earliest one that `plan` trains to the end.

        Args:
            maps: as for `network`.
        """
        layers = tuple((layer.name, layer.kernel) for layer in plan.layers)
        if (maps, layers) not in self._parts:
            self._parts[maps, layers] = TrainablePart(self.network(maps), layers)
        return self._parts[maps, layers]

    def network(self, maps: tuple[str, ...] | None) -> keras.Model:
        """Images -> embeddings; with `maps`, names of layers, their pooled outputs before the embedding (see `model.maps`)."""
        return self.model if maps is None else self._with(maps)[0]

    def sizes(self, maps: tuple[str, ...]) -> tuple[int, ...]:
        """Numbers of features of the maps and of the embedding."""
        return self._with(maps)[1]

    @property
    def in_time(self) -> bool:
        """Whether the network reads windows in time: sequences (T, C), or maps of height or width 1."""
        return in_time(self.model.input_shape[1:-1])

    @functools.cached_property
    def maps(self) -> tuple[str, ...]:
        """Names of the layers whose maps a closed-form head reads."""
        return find_maps(layer_table(self.model))

    def features(self, part: TrainablePart, images: ArrayLike) -> np.ndarray:
        """The input of a trainable part for images (N, ...), float32: the frozen part runs here, once per image."""
        images = np.asarray(images, np.float32)
        if part.frozen is None:
            return images
        run = self._frozen.setdefault(id(part.frozen.output), _compiled(part.frozen))
        batches = [run(images[start : start + BATCH_SIZE]).numpy() for start in range(0, len(images), BATCH_SIZE)]
        return np.concatenate([np.empty((0, *part.frozen.output_shape[1:]), np.float32), *batches])

    @functools.cached_property
    def hash(self) -> bytes:
        """The base model's hash, by which deltas know it."""
        return model_hash(self.model)

    def classifier(self, prototypes: np.ndarray) -> keras.Model:
        """The canonical model with the cosine classifier of `prototypes` (K, D): images -> logits. The next call changes it."""
        head, model = self._classifier(len(prototypes))
        head.kernel.assign(prototypes.T)
        return model

    def fisher(self, x: ArrayLike, y: ArrayLike, prototypes: np.ndarray, layer_names: Sequence[str]) -> dict[str, np.ndarray]:
        """`fisher_information` of `classifier(prototypes)`, compiled once for every task.

        The prototypes are constants, the queries the samples x (N, ...) themselves, of labels y (N,).
        """
        names, x, y = tuple(layer_names), np.asarray(x, np.float32), np.asarray(y)
        if names not in self._products:
            self._products[names] = self._compile_products(names)
        run, prototypes = self._products[names], tf.constant(prototypes, tf.float32)
        return mean_squares(lambda some: run(x[some], y[some], prototypes), len(x), names)

    @functools.cached_property
    def _canonical(self):
        return canonical_form(self.model)

    def _with(self, maps):
        if maps not in self._with_maps:
            self._with_maps[maps] = with_maps(self.model, maps)
        return self._with_maps[maps]

    def _classifier(self, num_classes):
        """(head, canonical model with it), one for each number of classes."""
        if num_classes not in self._classifiers:
            head, canonical = PrototypeHead(num_classes, scale=SCALE), self._canonical
            model = keras.Model(canonical.input, head(canonical.output), name=self.model.name)  # schemes are found by the name
            self._classifiers[num_classes] = head, model
        return self._classifiers[num_classes]

    def _compile_products(self, names):
        image, embedding = self._canonical.input_shape[1:], self._canonical.output_shape[-1]

        @tf.function(
            input_signature=[tf.TensorSpec([None, *image]), tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, embedding])],
            jit_compile=False,
            autograph=False,
        )
        def products(x, labels, prototypes):
            def loss(embeddings):
                logits = cosine_logits(embeddings, tf.cast(prototypes, embeddings.dtype), SCALE)
                return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

            return activation_gradient_products(self._canonical, x, loss, names)

        return products


def copy_model(model: keras.Model) -> keras.Model:
    """A flat copy with weights of its own."""
    model = flatten(model)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _compiled(model):
    spec = tf.TensorSpec(model.input_shape, tf.float32)
    return tf.function(lambda x: model(x, training=False), input_signature=[spec], jit_compile=False, autograph=False)


def _same_weights(model, other):
    mine, theirs = model.get_weights(), other.get_weights()
    return len(mine) == len(theirs) and all(map(np.array_equal, mine, theirs))
