"""Meta-training of NanoNet on glyphs, from the data file to the weights that the package ships."""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import time

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.backbones.bottlenecks import load_weights, save_weights
from keras_tinytrain.backbones.nano import NanoNet
from keras_tinytrain.data import Domain, load_npz
from keras_tinytrain.metatrain.evaluation import coarse_scans, prototype_accuracy
from keras_tinytrain.metatrain.glyph_trainer import IMAGE_SIZE, Recipe, Trainer
from keras_tinytrain.model.fold import fold_batch_norm

GLYPH_SIZE = 64  # pixels kept for augmentation


def metatrain(
    glyphs: Domain, *, recipe: Recipe = Recipe(), seed: int = 0, checkpoint: str | os.PathLike | None = None, report=print
) -> keras.Model:
    """Train NanoNet in float32, first to tell all classes apart, then by episodes.

    Stage 1: linear classifier over classes x 4 quarter turns. Stage 2: ProtoNet episodes with the classifier of PMF
    (Hu et al., CVPR 2022), scale and bias learned. Every view is augmented anew (see `handwriting`).

    Args:
        glyphs: training classes, images float32 (N, 64, 64, 1) in [0, 1], ink 1.
        recipe: durations and learning rates.
        seed: fixes the initial weights, the order and the views.
        checkpoint: None, or an .npz that is resumed from where it exists and written after every round.
        report: called with one line of progress after every round.

    Returns:
        NanoNet(batch_norm=False), trained, BatchNorm folded.
    """
    trainer = Trainer(glyphs, recipe, seed)
    done = trainer.restore(checkpoint) if checkpoint and os.path.exists(checkpoint) else 0
    for index in range(done, recipe.num_rounds):
        start = time.monotonic()
        loss, accuracy = trainer.run_round(index)
        stage = "classes" if index < recipe.epochs else "episodes"
        seconds = time.monotonic() - start
        report(f"round {index + 1}/{recipe.num_rounds} {stage}: loss {loss:.3f}, accuracy {accuracy:.3f}, {seconds:.0f} s")
        if checkpoint:
            trainer.save(checkpoint, index + 1)
    return folded_network(trainer.model, NanoNet)


def folded_network(model: keras.Model, build=NanoNet) -> keras.Model:
    """build(batch_norm=True) -> build(batch_norm=False) with the same features, to 1e-5 relative."""
    folded = build(model.input_shape[1:], weights=None)
    layers = {layer.name: layer for layer in fold_batch_norm(model).layers}
    for layer in folded.layers:
        layer.set_weights(layers[layer.name].get_weights() if layer.weights else [])
    return folded


def run(args: argparse.Namespace) -> int:
    """Train NanoNet, evaluate and save as `metatrain_arguments` says. Returns 0.

    Raises:
        ValueError, OSError: a file cannot be read or written, or does not hold what it should; the message is one sentence.
    """
    for path in filter(None, (args.out, args.checkpoint)):
        check_writable(path)
    if len(args.data) != 1:
        raise ValueError(f"nano is trained on one file of glyphs: --data glyphs.npz. Received --data {' '.join(args.data)}")
    glyphs = load_npz(args.data[0], size=GLYPH_SIZE)
    held_out = [load_npz(path, size=IMAGE_SIZE) for path in args.evaluate]
    recipe = Recipe(epochs=args.epochs, **({} if args.episodes is None else {"episodes": args.episodes}))
    model = metatrain(glyphs, recipe=recipe, seed=args.seed, checkpoint=args.checkpoint, report=print_now)
    save_weights(model, args.out)
    load_weights(model, args.out)  # what is measured is what was rounded to float16
    scans = [each for domain in held_out for each in (domain, coarse_scans(domain))]
    write_story(args, recipe, [glyphs], measure(model, scans))
    return 0


def check_writable(path) -> None:
    """Before half an hour of training, not after. Raises ValueError."""
    if pathlib.Path(path).suffix != ".npz" or not pathlib.Path(path).absolute().parent.is_dir():
        raise ValueError(f"Expected a file name that ends in .npz, in a folder that exists. Received: {path}")


def measure(model: keras.Model, domains: list[Domain]) -> dict[str, dict[str, float]]:
    """{domain: accuracy of prototypes alone, and its confidence}, printed too."""
    accuracies = {}
    for domain in domains:
        mean, half = prototype_accuracy(model, domain, num_episodes=200)
        accuracies[domain.name] = {"accuracy": round(mean, 4), "confidence_95": round(half, 4)}
        print_now(f"{domain.name}: 5-way 5-shot accuracy of prototypes {100 * mean:.2f} +- {100 * half:.2f} %")
    return accuracies


def write_story(args: argparse.Namespace, recipe, domains: list[Domain], accuracies: dict) -> None:
    """Write how the weights came about beside them: command, recipe, data, versions, accuracies."""
    story = {
        "command": args.command_of(args),
        "recipe": dataclasses.asdict(recipe),
        "data": [f"{domain.name}: {len(domain.labels)} samples of {domain.num_classes} classes" for domain in domains],
        "versions": {"python": platform.python_version(), **{m.__name__: m.__version__ for m in (tf, keras, np)}},
        "prototypes_5_way_5_shot": accuracies,
    }
    pathlib.Path(args.out).with_suffix(".json").write_text(json.dumps(story, indent=2) + "\n")


def print_now(line: str) -> None:
    print(line, flush=True)
