"""Where meta-trained weights come from: a .json beside them with the command, the recipe, the data and the accuracies."""

import argparse
import dataclasses
import json
import pathlib
import platform
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain._files import write_file
from keras_tinytrain.data import Domain
from keras_tinytrain.metatrain.evaluation import prototype_accuracy


def check_writable(*paths: str | None) -> None:
    """Raise ValueError for a path that no .npz can be written to, before half an hour of training; None is passed over."""
    for path in filter(None, paths):
        if pathlib.Path(path).suffix != ".npz" or not pathlib.Path(path).absolute().parent.is_dir():
            raise ValueError(f"Expected a file name that ends in .npz, in a folder that exists. Received: {path}")


def measure(model: keras.Model, domains: list[Domain]) -> dict[str, dict[str, float]]:
    """{domain: accuracy of prototypes alone, and half of its 95 % confidence interval}, printed too."""
    accuracies = {}
    for domain in domains:
        mean, half = prototype_accuracy(model, domain, num_episodes=200)
        accuracies[domain.name] = {"accuracy": round(mean, 4), "confidence_95": round(half, 4)}
        print_now(f"{domain.name}: 5-way 5-shot accuracy of prototypes {100 * mean:.2f} +- {100 * half:.2f} %")
    return accuracies


def write_provenance(args: argparse.Namespace, recipe: Any, domains: list[Domain], accuracies: dict) -> None:
    """Write the .json beside `args.out`: command, recipe, data, versions, accuracies.

    Args:
        args: of the command, with `args.command_of`, which says it in one line.
        recipe: a dataclass.
        domains: that the model was trained on.
        accuracies: as `measure` gives them.
    """
    provenance = {
        "command": args.command_of(args),
        "recipe": dataclasses.asdict(recipe),
        "data": [f"{domain.name}: {len(domain.labels)} samples of {domain.num_classes} classes" for domain in domains],
        "versions": {"python": platform.python_version(), **{m.__name__: m.__version__ for m in (tf, keras, np)}},
        "prototypes_5_way_5_shot": accuracies,
    }
    write_file(pathlib.Path(args.out).with_suffix(".json"), json.dumps(provenance, indent=2) + "\n")


def print_now(line: str) -> None:
    """Print a line of progress, through a pipe too."""
    print(line, flush=True)
