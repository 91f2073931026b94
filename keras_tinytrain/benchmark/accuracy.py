"""`keras-tinytrain benchmark accuracy`: methods side by side on the same few-shot tasks, resumable, with paired differences."""

import argparse
import itertools
import pathlib

import keras
import numpy as np
from rich.progress import track

from keras_tinytrain import backbones, cost
from keras_tinytrain.benchmark.results import append_row, mean_and_interval, read_rows
from keras_tinytrain.benchmark.text import aligned
from keras_tinytrain.domains import load_npz, resize
from keras_tinytrain.fewshot.adapt import adapt, prototype_classifier
from keras_tinytrain.fewshot.augmentation import default_shifts
from keras_tinytrain.fewshot.episodes import sample_episode
from keras_tinytrain.layers import layer_table
from keras_tinytrain.plan import Budget

IMAGE_SIZE = 128
WAYS, SHOTS, QUERIES, ITERATIONS = 5, 5, 15, 20
_FIELDS = ("backbone", "domain", "episode", "method", "accuracy", "weights", "backward_macs")
_BACKBONES = {"mcunet": backbones.MCUNet, "mobilenet_v2": backbones.MobileNetV2, "proxylessnas": backbones.ProxylessNASNet}
# The paper's budget per backbone: its memory and compute of TinyTrain (Kwon et al., ICML 2024, the main table).
BUDGETS = {
    "mcunet": Budget("0.89MB", 6.51e6),
    "mobilenet_v2": Budget("1.06MB", 4.90e6),
    "proxylessnas": Budget("0.78MB", 5.00e6),
}
# {method: (Adam's learning rate, options of `adapt`)}. Rates were chosen on other classes than the ones measured here.
METHODS = {
    "none": None,
    "last_layer": (3e-3, {"strategy": "last_layer"}),
    "full": (1e-4, {"strategy": "full"}),
    "tinytrain": (3e-3, {"strategy": "fisher"}),
    "tinytrain_knapsack": (3e-3, {"strategy": "fisher", "rule": "channels"}),
    "random": (3e-3, {"strategy": "random"}),
    "l2": (3e-3, {"strategy": "l2"}),
}


def run(args: argparse.Namespace) -> int:
    """Run what `args.out` does not hold yet, then print the tables. Returns 0.

    Raises:
        ValueError: a method or backbone is unknown, or a domain has too few samples.
        OSError: a file cannot be read or written.
    """
    unknown = [method for method in args.methods if method not in METHODS]
    if unknown:
        raise ValueError(f"Known methods: {', '.join(METHODS)}. Received: {unknown}")
    path = pathlib.Path(args.out)
    rows = read_rows(path, _FIELDS)
    done = {(row["backbone"], row["domain"], int(row["episode"]), row["method"]) for row in rows}
    backbone = load_backbone(args.backbone, args.weights)
    domains = [load_npz(each, size=None) for each in args.domains]
    work = [
        (domain, episode, method)
        for domain, episode, method in itertools.product(domains, range(args.episodes), args.methods)
        if (args.backbone, domain.name, episode, method) not in done
    ]
    for domain, episode, method in track(work, description="episodes x methods"):
        row = _run_one(args.backbone, backbone, domain, episode, method, args.seed)
        append_row(path, _FIELDS, row)
        rows.append(row)
    shown = [row for row in rows if row["backbone"] == args.backbone and row["method"] in args.methods]
    print(summary_text(shown, args.methods))
    return 0


def load_backbone(name: str, weights: str) -> keras.Model:
    """One of the paper's networks. Raises ValueError, with those that are known, where `name` is none."""
    if name not in _BACKBONES:
        raise ValueError(f"Known backbones: {', '.join(_BACKBONES)}. Received: {name}")
    return _BACKBONES[name](weights=weights)


def summary_text(rows, methods) -> str:
    """Mean accuracy per domain and over all, and each method's paired difference to the first, with 95 % intervals."""
    table = {(row["domain"], int(row["episode"]), row["method"]): 100 * float(row["accuracy"]) for row in rows}
    domains = sorted({domain for domain, _, _ in table})
    lines = [("method", "weights", *domains, "all", f"minus {methods[0]}")]
    for method in methods:
        own = {key[:2]: value for key, value in table.items() if key[2] == method}
        paired = [value - table[(*key, methods[0])] for key, value in own.items() if (*key, methods[0]) in table]
        weights = [int(row["weights"]) for row in rows if row["method"] == method]
        means = [f"{np.mean([value for key, value in own.items() if key[0] == domain]):.1f}" for domain in domains]
        overall = mean_and_interval(list(own.values())), mean_and_interval(paired)
        lines.append((method, f"{np.mean(weights):,.0f}", *means, *overall))
    return aligned(lines)


def _run_one(name, backbone, domain, episode, method, seed):
    task = sample_task(domain, episode, seed)
    learned = _learn(name, backbone, task, method)
    choice, table = cost.num_channels(learned.plan) if learned.plan else {}, layer_table(backbone)
    return {
        "backbone": name,
        "domain": domain.name,
        "episode": episode,
        "method": method,
        "accuracy": learned.evaluate(task.query_x, task.query_y),
        "weights": cost.num_trained_weights(table, choice),
        "backward_macs": cost.backward_macs(table, choice) if choice else 0,
    }


def _learn(name, backbone, task, method):
    if METHODS[method] is None:
        return prototype_classifier(backbone, task.support_x, task.support_y)
    learning_rate, options = METHODS[method]
    return adapt(
        backbone,
        task.support_x,
        task.support_y,
        budget=BUDGETS[name],
        accounting=cost.PaperAccounting(),
        iterations=ITERATIONS,
        learning_rate=learning_rate,
        shifts=default_shifts(IMAGE_SIZE, IMAGE_SIZE),
        **options,
    )


def sample_task(domain, episode, seed):
    """Episode number `episode` of the domain, the same for every method; its images as the backbone wants them."""
    rng = np.random.default_rng([seed, episode])
    task = sample_episode(domain, ways=WAYS, shots=SHOTS, queries=QUERIES, rng=rng)
    return type(task)(_prepared(task.support_x), task.support_y, _prepared(task.query_x), task.query_y)


def _prepared(images):
    """As the ImageNet backbones see them: RGB at their size; glyphs and sketches as black ink on white."""
    images = resize(images, IMAGE_SIZE, IMAGE_SIZE)
    return backbones.preprocess_input(255 * (images if images.shape[-1] == 3 else np.repeat(1 - images, 3, axis=-1)))
