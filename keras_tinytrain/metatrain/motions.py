"""`keras-tinytrain metatrain --backbone gesture`: GestureNet by episodes of motions, recorded and invented."""

import argparse
import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.backbones.gesture import WINDOW, GestureNet
from keras_tinytrain.backbones.small_network import folded_network
from keras_tinytrain.backbones.small_weights import load_weights, save_weights
from keras_tinytrain.data import load_npz
from keras_tinytrain.data.motion import DEGREES_PER_SECOND
from keras_tinytrain.fewshot.prototypes import class_prototypes, cosine_logits
from keras_tinytrain.metatrain.invented_motions import invented_motions
from keras_tinytrain.metatrain.optimizer import adamw
from keras_tinytrain.metatrain.provenance import check_writable, measure, print_now, write_provenance
from keras_tinytrain.metatrain.recorded_motions import Recordings, held_otherwise

REPORT_STEPS = 100
_UNITS = np.repeat([1.0, DEGREES_PER_SECOND], 3)


@dataclasses.dataclass(frozen=True)
class MotionRecipe:
    """How long and how fast to train.

    Args:
        episodes: steps, each of `ways` classes with `shots` support and as many query samples.
        learning_rate: peak of AdamW; warmed up over a twentieth of the steps, then a cosine.
        weight_decay: of AdamW, kernels only.
        motions: "recorded", "invented", or "both": half of an episode's classes each.
    """

    episodes: int = 1000
    ways: int = 16
    shots: int = 5
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    motions: str = "invented"


DEFAULT_RECIPE = MotionRecipe()


def train_on_motions(
    recordings: Recordings | None,
    *,
    recipe: MotionRecipe = DEFAULT_RECIPE,
    seed: int = 0,
    report: Callable[[str], None] = print,
    build: Callable[..., keras.Model] = GestureNet,
) -> keras.Model:
    """Train a backbone by ProtoNet episodes with the classifier of PMF (Hu et al., CVPR 2022), its scale learned.

    Args:
        recordings: to cut windows from; None where all motions are invented.
        recipe: durations and learning rate.
        seed: fixes the initial weights and every motion.
        report: called with one line of progress every hundred steps.
        build: the backbone, as GestureNet.

    Returns:
        build(batch_norm=False), trained, BatchNorm folded.
    """
    keras.utils.set_random_seed(seed)
    model, rng, results = build(weights=None, batch_norm=True), np.random.default_rng(seed), []
    step = _step(model, recipe)
    for index in range(recipe.episodes):
        results.append(step(draw_episode(recordings, recipe, rng)))
        if (index + 1) % REPORT_STEPS == 0:
            loss, accuracy = np.mean(results[-REPORT_STEPS:], axis=0)
            report(f"episode {index + 1}/{recipe.episodes}: loss {loss:.3f}, accuracy {accuracy:.3f}")
    return folded_network(model, build)


def draw_episode(recordings: Recordings | None, recipe: MotionRecipe, rng: np.random.Generator) -> np.ndarray:
    """Windows of one episode, float32 (2 * ways * shots, *WINDOW): the support set class by class, then the queries."""
    num_samples = 2 * recipe.shots
    num_invented = {"recorded": 0, "invented": recipe.ways, "both": recipe.ways // 2}[recipe.motions]
    windows = []
    if num_invented:
        windows.append(invented_motions(rng, num_invented, num_samples))
    if num_invented < recipe.ways:
        if recordings is None:
            raise ValueError(f"motions={recipe.motions!r} needs recordings.")
        windows.append(recordings.sample(rng, recipe.ways - num_invented, num_samples))
    windows = held_otherwise(np.concatenate(windows), rng) / _UNITS
    windows = windows.reshape(recipe.ways, 2, recipe.shots, *WINDOW).swapaxes(0, 1)
    return windows.reshape(-1, *WINDOW).astype(np.float32)


def run(args: argparse.Namespace) -> int:
    """Train GestureNet, evaluate and save as `cli.metatrain` says. Returns 0.

    Raises:
        ValueError, OSError: a file cannot be read or written, or does not hold what it should; the message is one sentence.
    """
    check_writable(args.out)
    if args.motions == "invented" and args.data:
        print_now(f"Motions are invented: --data {' '.join(args.data)} is not read.")
        args = argparse.Namespace(**{**vars(args), "data": []})
    learned_from = [] if args.motions == "invented" else [_domain(args.data)]
    held_out = [load_npz(path, size=None) for path in args.evaluate]
    recordings = _recordings(learned_from[0], args.rate) if learned_from else None
    recipe = MotionRecipe(motions=args.motions, **({} if args.episodes is None else {"episodes": args.episodes}))
    model = train_on_motions(recordings, recipe=recipe, seed=args.seed, report=print_now)
    save_weights(model, args.out)
    load_weights(model, args.out)  # so that the weights that are measured are rounded to float16 too
    write_provenance(args, recipe, learned_from, measure(model, held_out))
    return 0


def _recordings(domain, rate):
    return Recordings(domain.images[:, :, 0] * _UNITS, domain.labels, rate)


def _domain(data):
    if len(data) != 1:
        raise ValueError(f"gesture is trained on one file of recordings: --data moves.npz. Received --data {' '.join(data)}")
    domain = load_npz(data[0], size=None)
    if domain.images.shape[2:] != WINDOW[1:]:
        raise ValueError(f"{data[0]} holds samples {domain.images.shape[1:]}, no motion of shape (steps, 1, 6).")
    return domain


def _step(model, recipe):
    """Compiled: windows (2 * ways * shots, *WINDOW) -> loss and accuracy of the queries, after one step of AdamW."""
    scale = keras.Variable(10.0, name="scale")
    variables, steps = [*model.trainable_variables, scale], recipe.episodes
    optimizer = adamw(
        variables,
        learning_rate=recipe.learning_rate,
        num_steps=steps,
        warm_up_steps=steps // 20,
        weight_decay=recipe.weight_decay,
    )
    labels = np.repeat(np.arange(recipe.ways, dtype=np.int64), recipe.shots)

    @tf.function(autograph=False)
    def step(windows):
        with tf.GradientTape() as tape:
            support, queries = tf.split(model(windows, training=True), 2)
            logits = cosine_logits(queries, class_prototypes(support, labels, recipe.ways), scale)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        return loss, tf.reduce_mean(tf.cast(tf.argmax(logits, 1) == labels, tf.float32))

    return lambda windows: [float(value) for value in step(windows)]
