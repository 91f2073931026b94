"""`keras-tinytrain metatrain` of the ImageNet backbones: PMF's episodes on the domains that the user has."""

import argparse
import dataclasses
import functools
import os

import tensorflow as tf
from rich.progress import Progress

from keras_tinytrain.backbones.imagenet_weights import save_pretrained
from keras_tinytrain.backbones.images import network_images
from keras_tinytrain.backbones.names import find_backbone
from keras_tinytrain.data import every_second_class, load_domain
from keras_tinytrain.metatrain.image_trainer import EpisodicRecipe, EpisodicTrainer, merged
from keras_tinytrain.metatrain.provenance import check_writable, measure, write_provenance

CHECKPOINT_STEPS = 25
STORED_SIZE = 84  # pixels kept of each image, as in MiniImageNet: a domain stays in memory


def run(args: argparse.Namespace) -> int:
    """Train, evaluate and save as `cli.metatrain` says. Returns 0.

    With several workers each writes its own files only if it is the first.

    Raises:
        ValueError, OSError: a file cannot be read or written, or does not hold what it should.
    """
    check_writable(args.out, args.checkpoint)
    if not args.data:
        raise ValueError(f"{args.backbone} is trained on domains of images: name them, --data signs.npz ...")
    strategy = _strategy(args.distribute)  # before anything else touches the devices
    domains = [every_second_class(load_domain(name, size=STORED_SIZE), args.classes) for name in args.data]
    recipe = EpisodicRecipe(**({} if args.episodes is None else {"episodes": args.episodes}))
    backbone = find_backbone(args.backbone)((args.size, args.size, 3), weights=args.weights)
    to_input = functools.partial(network_images, input_shape=backbone.input_shape[1:])
    trainer = EpisodicTrainer(backbone, domains, to_input=to_input, recipe=recipe, seed=args.seed, strategy=strategy)
    first = strategy is None or not strategy.cluster_resolver or strategy.cluster_resolver.task_id in (None, 0)
    train_on_images(trainer, checkpoint=args.checkpoint, log_dir=args.log_dir if first else None, writes=first)
    if first:
        backbone.set_weights(merged(backbone.get_weights(), trainer.backbone.get_weights(), args.mix))
        save_pretrained(backbone, args.out)
        write_provenance(args, recipe, domains, measure(backbone, [_held_out(name, args) for name in args.evaluate]))
    return 0


def train_on_images(
    trainer: EpisodicTrainer, *, checkpoint: str | None = None, log_dir: str | None = None, writes: bool = True
) -> None:
    """All steps that are left, with a progress bar.

    Args:
        trainer: what to train.
        checkpoint: None, or an .npz that is resumed from where it exists and written every 25 steps.
        log_dir: None, or a folder for TensorBoard: loss, accuracy and learning rate of each step.
        writes: False for all workers but the first.
    """
    if checkpoint and os.path.exists(checkpoint):
        trainer.restore(checkpoint)
    total = trainer.recipe.num_steps
    logs = tf.summary.create_file_writer(os.fspath(log_dir)) if log_dir else None
    with Progress(disable=not writes) as progress:
        bar = progress.add_task("meta-training", total=total, completed=trainer.num_steps_done)
        while trainer.num_steps_done < total:
            loss, accuracy = trainer.step()
            progress.update(bar, advance=1, description=f"meta-training: loss {loss:.3f}, accuracy {accuracy:.3f}")
            if logs:
                _log(logs, trainer, loss, accuracy)
            if checkpoint and writes and (trainer.num_steps_done % CHECKPOINT_STEPS == 0 or trainer.num_steps_done == total):
                trainer.save(checkpoint)
    if logs:
        logs.close()


def _held_out(name, args):
    """A domain to measure on: of one that was trained on, the other classes."""
    others = {"all": "all", "even": "odd", "odd": "even"}[args.classes] if name in args.data else "all"
    domain = every_second_class(load_domain(name, size=args.size), others)
    return dataclasses.replace(domain, images=network_images(domain.images, (args.size, args.size, 3)))


def _strategy(name):
    if name == "none":
        return None
    return tf.distribute.MirroredStrategy() if name == "mirrored" else tf.distribute.MultiWorkerMirroredStrategy()


def _log(logs, trainer, loss, accuracy):
    values = {"loss": loss, "accuracy": accuracy, "learning_rate": float(trainer.optimizer.learning_rate)}
    with logs.as_default(step=trainer.num_steps_done):
        for name, value in values.items():
            tf.summary.scalar(f"metatrain/{name}", value)
