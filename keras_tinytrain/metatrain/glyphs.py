"""Meta-training of NanoNet on glyphs, from the data file to the weights that the package ships."""

import argparse
import os
import time
from collections.abc import Callable

import keras

from keras_tinytrain._text import duration
from keras_tinytrain.backbones.nano import NanoNet
from keras_tinytrain.backbones.small_network import folded_network
from keras_tinytrain.backbones.small_weights import load_weights, save_weights
from keras_tinytrain.data import Domain, load_npz
from keras_tinytrain.metatrain.evaluation import coarse_scans
from keras_tinytrain.metatrain.glyph_trainer import IMAGE_SIZE, GlyphRecipe, GlyphTrainer
from keras_tinytrain.metatrain.provenance import check_writable, measure, print_now, write_provenance

GLYPH_SIZE = 64  # pixels kept for augmentation
DEFAULT_RECIPE = GlyphRecipe()


def train_on_glyphs(
    glyphs: Domain,
    *,
    recipe: GlyphRecipe = DEFAULT_RECIPE,
    seed: int = 0,
    checkpoint: str | os.PathLike | None = None,
    report: Callable[[str], None] = print,
) -> keras.Model:
    """Train NanoNet in float32, first to tell all classes apart, then by episodes.

    Stage 1: linear classifier over classes x 4 quarter turns. Stage 2: ProtoNet episodes with the classifier of PMF
    (Hu et al., CVPR 2022), scale and bias learned. Every view is augmented anew (see `glyph_views`).

    Args:
        glyphs: training classes, images float32 (N, 64, 64, 1) in [0, 1], ink 1.
        recipe: durations and learning rates.
        seed: fixes the initial weights, the order and the views.
        checkpoint: None, or an .npz that is resumed from where it exists and written after every round.
        report: called with one line of progress after every round.

    Returns:
        NanoNet(batch_norm=False), trained, BatchNorm folded.
    """
    trainer = GlyphTrainer(glyphs, recipe, seed)
    done = trainer.restore(checkpoint) if checkpoint and os.path.exists(checkpoint) else 0
    for index in range(done, recipe.num_rounds):
        start = time.monotonic()
        loss, accuracy = trainer.run_round(index)
        stage = "classes" if index < recipe.epochs else "episodes"
        took = duration(time.monotonic() - start)
        report(f"round {index + 1}/{recipe.num_rounds} {stage}: loss {loss:.3f}, accuracy {accuracy:.3f}, {took}")
        if checkpoint:
            trainer.save(checkpoint, index + 1)
    return folded_network(trainer.model, NanoNet)


def run(args: argparse.Namespace) -> int:
    """Train NanoNet, evaluate and save as `cli.metatrain` says. Returns 0.

    Raises:
        ValueError, OSError: a file cannot be read or written, or does not hold what it should; the message is one sentence.
    """
    check_writable(args.out, args.checkpoint)
    if len(args.data) != 1:
        raise ValueError(f"nano is trained on one file of glyphs: --data glyphs.npz. Received --data {' '.join(args.data)}")
    glyphs = load_npz(args.data[0], size=GLYPH_SIZE)
    held_out = [load_npz(path, size=IMAGE_SIZE) for path in args.evaluate]
    recipe = GlyphRecipe(epochs=args.epochs, **({} if args.episodes is None else {"episodes": args.episodes}))
    model = train_on_glyphs(glyphs, recipe=recipe, seed=args.seed, checkpoint=args.checkpoint, report=print_now)
    save_weights(model, args.out)
    load_weights(model, args.out)  # so that the weights that are measured are rounded to float16 too
    scans = [each for domain in held_out for each in (domain, coarse_scans(domain))]
    write_provenance(args, recipe, [glyphs], measure(model, scans))
    return 0
