"""The two stages of meta-training: telling all classes apart, then episodes of a cosine ProtoNet."""

import dataclasses
import os

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.backbones.nano import NanoNet
from keras_tinytrain.data import Domain
from keras_tinytrain.fewshot.prototypes import class_prototypes, cosine_logits
from keras_tinytrain.metatrain.checkpoint import restore_checkpoint, save_checkpoint
from keras_tinytrain.metatrain.glyph_views import glyph_boxes, glyph_views
from keras_tinytrain.metatrain.optimizer import adamw

IMAGE_SIZE = 32  # pixels the network sees
EPISODES_PER_ROUND = 100
NUM_TURNS = 4  # a glyph turned by 0, 90, 180 and 270 degrees makes four classes


@dataclasses.dataclass(frozen=True)
class GlyphRecipe:
    """How long and how fast to train.

    Args:
        epochs: passes over the data in stage 1, in batches of `batch_size`.
        learning_rate: peak of stage 1; both stages warm up over a twentieth of their steps, then decay by a cosine.
        episodes: steps of stage 2, each `ways` classes with `shots` support and as many query samples.
        episode_learning_rate: peak of stage 2.
        weight_decay: of AdamW, kernels only.
    """

    epochs: int = 16
    batch_size: int = 128
    learning_rate: float = 5e-3
    episodes: int = 2000
    ways: int = 20
    shots: int = 5
    episode_learning_rate: float = 1e-3
    weight_decay: float = 0.05

    @property
    def num_rounds(self) -> int:
        """Epochs of stage 1 plus rounds of up to a hundred episodes of stage 2."""
        return self.epochs + -(-self.episodes // EPISODES_PER_ROUND)


class GlyphTrainer:
    """A model with both heads and their optimizers; every random draw is a pure function of seed and round.

    Args:
        glyphs: training classes, images (N, S, S, 1) larger than 32x32, so that augmented strokes stay sharp.
        recipe: durations and learning rates.
        seed: fixes everything.
        model: to train, float32 (N, 32, 32, 1) -> (N, D); None builds NanoNet(batch_norm=True).

    Raises:
        ValueError: images are not of that shape, or too few for a batch or an episode.
    """

    def __init__(self, glyphs: Domain, recipe: GlyphRecipe, seed: int, *, model: keras.Model | None = None):
        keras.utils.set_random_seed(seed)
        self.recipe, self.seed = recipe, seed
        self.glyphs, self.boxes = np.round(glyphs.images * 255).astype(np.uint8), glyph_boxes(glyphs.images)
        self.labels = np.unique(glyphs.labels, return_inverse=True)[1]
        _check_enough(glyphs.images.shape, self.labels, recipe)
        self.model = model or NanoNet((IMAGE_SIZE, IMAGE_SIZE, 1), weights=None, batch_norm=True)
        shape = (NUM_TURNS * (self.labels.max() + 1), self.model.output_shape[-1])
        self.classes = keras.Variable(np.random.default_rng(seed).normal(0, 0.1, shape), dtype="float32", name="classes")
        self.scale, self.bias = keras.Variable(10.0, name="scale"), keras.Variable(0.0, name="bias")
        num_steps = recipe.epochs * (len(self.labels) // recipe.batch_size)
        self.optimizers = [
            self._optimizer(recipe.learning_rate, num_steps, [self.classes]),
            self._optimizer(recipe.episode_learning_rate, recipe.episodes, [self.scale, self.bias]),
        ]
        self._class_step = self._compile(self.optimizers[0], [self.classes], self._class_logits, 4)
        self._episode_step = self._compile(self.optimizers[1], [self.scale, self.bias], self._episode_logits, 2)

    def run_round(self, index: int) -> tuple[float, float]:
        """Train round `index` of `recipe.num_rounds`; mean (loss, accuracy) on its augmented views."""
        rng = np.random.default_rng([self.seed, index])
        if index < self.recipe.epochs:
            results = [self._class_step(*self._views(batch, rng)) for batch in self._batches(rng)]
        else:
            remaining = self.recipe.episodes - (index - self.recipe.epochs) * EPISODES_PER_ROUND
            results = [self._episode_step(*self._draw(rng)) for _ in range(min(EPISODES_PER_ROUND, remaining))]
        loss, accuracy = np.mean(results, axis=0)
        return float(loss), float(accuracy)

    def save(self, path: str | os.PathLike, num_rounds: int) -> None:
        """Write all variables and how many rounds are done; a cut while writing leaves the file as it was."""
        save_checkpoint(path, self._variables(), settings=self._settings(), num_rounds=num_rounds)

    def restore(self, path: str | os.PathLike) -> int:
        """Read what `save` wrote and return its number of rounds.

        Raises:
            ValueError: the checkpoint is of another recipe, seed or data set.
        """
        known = {"settings": self._settings(), "progress": "num_rounds", "depends_on": "recipe, seed and data"}
        return restore_checkpoint(path, self._variables(), **known)

    def _settings(self):
        return f"{self.recipe}, seed {self.seed}, {len(self.labels)} glyphs of {self.labels.max() + 1} classes"

    def _variables(self):
        heads = [self.classes, self.scale, self.bias]
        return self.model.variables + heads + [v for optimizer in self.optimizers for v in optimizer.variables]

    def _optimizer(self, learning_rate, num_steps, heads):
        steps = {"num_steps": num_steps, "warm_up_steps": num_steps // 20}
        trained = self.model.trainable_variables + heads
        return adamw(trained, learning_rate=learning_rate, **steps, weight_decay=self.recipe.weight_decay)

    def _compile(self, optimizer, heads, logits_of, num_styles):
        variables = self.model.trainable_variables + heads

        @tf.function(jit_compile=False, autograph=False)
        def step(glyphs, boxes, turns, labels, seed):
            views = glyph_views(glyphs, boxes, turns, seed, size=IMAGE_SIZE, num_styles=num_styles)
            with tf.GradientTape() as tape:
                logits, targets = logits_of(self.model(views, training=True), labels)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))
            optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
            return loss, tf.reduce_mean(tf.cast(tf.argmax(logits, 1) == targets, tf.float32))

        return step

    def _class_logits(self, features, labels):
        """A plain linear classifier: with cosines, thousands of classes need many more epochs to come apart."""
        return tf.matmul(features, tf.convert_to_tensor(self.classes), transpose_b=True), labels

    def _episode_logits(self, features, labels):
        """The first half of the batch is the support set, the second half the queries."""
        (support, queries), (support_y, query_y) = tf.split(features, 2), tf.split(labels, 2)
        prototypes = class_prototypes(support, support_y, self.recipe.ways)
        return cosine_logits(queries, prototypes, self.scale, bias=self.bias), query_y

    def _batches(self, rng):
        order, size = rng.permutation(len(self.labels)), self.recipe.batch_size
        return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]

    def _views(self, indices, rng):
        turns = rng.integers(0, NUM_TURNS, len(indices))
        return self._batch(indices, turns, self.labels[indices] * NUM_TURNS + turns, rng)

    def _draw(self, rng):
        """Support samples of all ways, then their queries."""
        ways, shots = self.recipe.ways, self.recipe.shots
        classes = rng.choice(NUM_TURNS * (self.labels.max() + 1), ways, replace=False)
        members = [rng.choice(np.flatnonzero(self.labels == c // NUM_TURNS), 2 * shots, replace=False) for c in classes]
        indices = np.stack(members).reshape(ways, 2, shots).swapaxes(0, 1).ravel()
        places = np.tile(np.repeat(np.arange(ways), shots), 2)
        return self._batch(indices, classes[places] % NUM_TURNS, places, rng)

    def _batch(self, indices, turns, labels, rng):
        seed = rng.integers(0, 2**31, 2)
        arrays = (self.glyphs[indices], self.boxes[indices], turns, labels, seed)
        return tuple(tf.constant(array, dtype=array.dtype) for array in arrays)


def _check_enough(shape, labels, recipe):
    if shape[1] != shape[2] or shape[3] != 1:
        raise ValueError(f"Expected square glyphs of one channel, (N, S, S, 1). Received: {shape}")
    smallest, num_classes = np.bincount(labels).min(), NUM_TURNS * (labels.max() + 1)
    if recipe.epochs and len(labels) < recipe.batch_size:
        raise ValueError(f"Stage 1 needs a batch of {recipe.batch_size} glyphs. Received: {len(labels)}")
    if recipe.episodes and (num_classes < recipe.ways or smallest < 2 * recipe.shots):
        raise ValueError(
            f"Stage 2 needs {recipe.ways} classes, turned ones included, of at least {2 * recipe.shots} glyphs each. "
            f"Received: {num_classes} classes, the smallest of {smallest} glyphs."
        )
