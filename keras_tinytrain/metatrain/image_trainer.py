"""Meta-training of any backbone on episodes of any domains, as in PMF, on one device or on many."""

import dataclasses
import os
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.data import Domain, resize
from keras_tinytrain.data.episodes import sample_indices
from keras_tinytrain.fewshot.prototypes import l2_normalize
from keras_tinytrain.metatrain.checkpoint import restore_checkpoint, save_checkpoint
from keras_tinytrain.metatrain.optimizer import adamw
from keras_tinytrain.model.graph import flatten

MAX_SHIFT = 0.125  # of the image's size
WARM_UP = 0.05  # of all steps


@dataclasses.dataclass(frozen=True)
class EpisodicRecipe:
    """How long and how fast to train.

    Args:
        episodes: how many in all; each draws one of the domains.
        episodes_per_step: whose gradients are averaged in one step; divided evenly among the devices.
        ways, shots, queries: of each episode, shots and queries per class.
        learning_rate: peak of AdamW; warmed up, then decayed by a cosine.
        weight_decay: of kernels.
    """

    episodes: int = 1000
    episodes_per_step: int = 2
    ways: int = 5
    shots: int = 5
    queries: int = 5
    learning_rate: float = 3e-4
    weight_decay: float = 1e-4

    @property
    def num_steps(self) -> int:
        return self.episodes // self.episodes_per_step


DEFAULT_RECIPE = EpisodicRecipe()


def merged(start: list[np.ndarray], trained: list[np.ndarray], mix: float) -> list[np.ndarray]:
    """(1 - mix) start + mix trained, array by array: WiSE-FT (Wortsman et al., CVPR 2022).

    What the network knew about domains that meta-training never shows stays; at `mix` 1 some of it is lost.
    """
    return [before + np.float32(mix) * (after - before) for before, after in zip(start, trained, strict=True)]


class EpisodicTrainer:
    """Trains a copy of a backbone so that cosine prototypes tell the classes of an episode apart.

    PMF (Hu et al., CVPR 2022): prototype c_k = mean of the support features of class k; logit = scale * (cos(f, c_k) + bias),
    scale and bias learned from 10 and 0; cross-entropy over the queries; gradients flow through the prototypes too. BatchNorm, where a
    backbone has it, stays in inference mode. Every random draw is a pure function of seed and step, and a step's gradient is the mean over
    its episodes wherever they are computed: so the losses do not depend on the number of devices, except for rounding.

    Args:
        backbone: images (N, H, W, C) -> features (N, D); it is copied.
        domains: where episodes come from; images in [0, 1], of any size.
        to_input: float32 images in [0, 1], (N, H, W, channels of their domain) -> inputs of the backbone.
        recipe: durations and learning rates.
        seed: fixes episodes and views.
        strategy: a tf.distribute strategy, such as MirroredStrategy or MultiWorkerMirroredStrategy; None: one device.

    Raises:
        ValueError: a domain is too small for an episode, or the episodes of a step do not divide among the devices.
    """

    def __init__(
        self,
        backbone: keras.Model,
        domains: list[Domain],
        *,
        to_input: Callable[[np.ndarray], np.ndarray],
        recipe: EpisodicRecipe = DEFAULT_RECIPE,
        seed: int = 0,
        strategy: tf.distribute.Strategy | None = None,
    ):
        self.recipe, self.seed, self.domains = recipe, seed, domains
        self._to_input, self._strategy = to_input, strategy or tf.distribute.get_strategy()
        num_devices = self._strategy.num_replicas_in_sync
        if recipe.episodes_per_step % num_devices:
            raise ValueError(
                f"{recipe.episodes_per_step} episodes a step do not divide among {num_devices} devices: make "
                f"episodes_per_step a multiple of {num_devices}."
            )
        self._per_device = recipe.episodes_per_step // num_devices
        for domain in domains:  # a domain that is too small says so now, not after an hour
            self._draw(np.random.default_rng(0), domain)
        with self._strategy.scope():
            self.backbone = _copy(backbone)
            self.scale, self.bias = keras.Variable(10.0, name="scale"), keras.Variable(0.0, name="bias")
            self._trained = [*self.backbone.trainable_variables, self.scale, self.bias]
            self.optimizer = _optimizer(recipe, self._trained)
        self._step = self._compile()
        self.num_steps_done = 0

    def step(self) -> tuple[float, float]:
        """One optimizer step: (mean loss, mean accuracy) of its episodes before it."""
        step, slots = self.num_steps_done, range(self.recipe.episodes_per_step)

        def of_device(context):
            first = context.replica_id_in_sync_group * self._per_device
            return tf.constant(np.stack([self._episode(step, slot) for slot in slots[first : first + self._per_device]]))

        loss, accuracy = self._step(self._strategy.experimental_distribute_values_from_function(of_device))
        self.num_steps_done += 1
        return float(loss), float(accuracy)

    def save(self, path: str | os.PathLike) -> None:
        """Write everything that `restore` needs; a cut while writing leaves the file as it was."""
        save_checkpoint(path, self._state(), settings=self._settings(), steps=self.num_steps_done)

    def restore(self, path: str | os.PathLike) -> None:
        """Go on where `save` was called. Raises ValueError for a checkpoint of another recipe, seed, backbone or data."""
        known = {"settings": self._settings(), "progress": "steps", "depends_on": "recipe, seed, backbone and data"}
        self.num_steps_done = restore_checkpoint(path, self._state(), **known)

    def _settings(self):
        data = [f"{domain.name} {domain.images.shape}" for domain in self.domains]
        network = f"{self.backbone.input_shape} to {self.backbone.output_shape}, {self.backbone.count_params()} parameters"
        return f"{self.recipe}, seed {self.seed}, {network}, {data}"

    def _state(self):
        return [*self.backbone.variables, self.scale, self.bias, *self.optimizer.variables]

    def _episode(self, step, slot):
        """float32 (ways, shots + queries, H, W, C): episode `slot` of a step, each image shifted, photographs perhaps flipped."""
        rng = np.random.default_rng([self.seed, step, slot])
        images = self._draw(rng, self.domains[rng.integers(len(self.domains))])
        height, width = self.backbone.input_shape[1:3]
        images = np.stack([_view(image, rng) for image in resize(images, height, width)])
        return np.asarray(self._to_input(images), np.float32).reshape(self.recipe.ways, -1, *self.backbone.input_shape[1:])

    def _draw(self, rng, domain):
        recipe = self.recipe
        drawn = {"ways": recipe.ways, "shots": recipe.shots, "queries": recipe.queries}
        support, query, _, _ = sample_indices(domain.labels, **drawn, rng=rng, groups=domain.groups)
        by_class = [support.reshape(recipe.ways, -1), query.reshape(recipe.ways, -1)]
        return domain.images[np.concatenate(by_class, axis=1).ravel()]

    def _compile(self):
        strategy, optimizer, trained = self._strategy, self.optimizer, self._trained

        def on_device(episodes):
            with tf.GradientTape() as tape:
                losses, accuracies = self._losses(episodes)
                share = tf.reduce_sum(losses) / self.recipe.episodes_per_step  # the optimizer sums over devices
            gradients = tape.gradient(share, [variable.value for variable in trained])
            optimizer.apply_gradients(zip(gradients, trained))
            return share, tf.reduce_sum(accuracies) / self.recipe.episodes_per_step

        @tf.function(jit_compile=False, autograph=False)
        def step(episodes):
            shares = strategy.run(on_device, args=(episodes,))
            return [strategy.reduce(tf.distribute.ReduceOp.SUM, share, axis=None) for share in shares]

        return step

    def _losses(self, episodes):
        """Loss and accuracy of each episode, (episodes,), of images (episodes, ways, shots + queries, H, W, C)."""
        recipe, num_images = self.recipe, self.recipe.shots + self.recipe.queries
        features = self.backbone(tf.reshape(episodes, (-1, *episodes.shape[3:])), training=False)
        features = tf.reshape(features, (-1, recipe.ways, num_images, features.shape[-1]))
        prototypes = l2_normalize(tf.reduce_mean(features[:, :, : recipe.shots], axis=2))
        queries = l2_normalize(features[:, :, recipe.shots :])
        logits = self.scale * (tf.einsum("ewqd,ekd->ewqk", queries, prototypes) + self.bias)
        labels = tf.broadcast_to(tf.range(recipe.ways)[None, :, None], tf.shape(logits)[:3])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        right = tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32) == labels, tf.float32)
        return tf.reduce_mean(losses, axis=(1, 2)), tf.reduce_mean(right, axis=(1, 2))


def _copy(model):
    """A flat copy with weights of its own, made in the current distribution scope."""
    model = flatten(model)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _optimizer(recipe, variables):
    steps = {"num_steps": recipe.num_steps, "warm_up_steps": round(WARM_UP * recipe.num_steps)}
    return adamw(variables, learning_rate=recipe.learning_rate, **steps, weight_decay=recipe.weight_decay)


def _view(image, rng):
    """The image shifted by up to an eighth, its edge repeated; one of three channels flipped half of the time."""
    height, width, channels = image.shape
    dy, dx = (rng.integers(-round(MAX_SHIFT * side), round(MAX_SHIFT * side) + 1) for side in (height, width))
    flip = channels == 3 and rng.random() < 0.5
    columns = np.arange(width)[:: -1 if flip else 1]
    return image[np.clip(np.arange(height) - dy, 0, height - 1)][:, np.clip(columns - dx, 0, width - 1)]
