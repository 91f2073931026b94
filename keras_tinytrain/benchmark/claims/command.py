"""Measure what the file of results does not hold yet, then print the claims and write their page."""

import argparse
import dataclasses
import json
import pathlib

from rich.console import Console
from rich.progress import track

import keras_tinytrain
from keras_tinytrain._files import write_file
from keras_tinytrain.benchmark import engines
from keras_tinytrain.benchmark.claims import page
from keras_tinytrain.benchmark.claims.evidence import evidence
from keras_tinytrain.benchmark.claims.measured import FIELDS, METHODS, NUM_KEYS, measure
from keras_tinytrain.benchmark.jobs import Settings, open_jobs
from keras_tinytrain.benchmark.networks import NETWORKS, Network, find_network
from keras_tinytrain.benchmark.results import append_results, given_results, key, read_results
from keras_tinytrain.benchmark.tasks import TaskShape


@dataclasses.dataclass(frozen=True)
class Scope:
    """How much is measured.

    Args:
        networks: keys of `networks.NETWORKS`.
        methods: of `measured.METHODS`.
        steps, shape: of the few tasks that show accuracy where no file does.
    """

    networks: tuple[str, ...] = tuple(name for name, network in NETWORKS.items() if network.paper_name)
    methods: tuple[str, ...] = tuple(METHODS)
    steps: int = 40
    shape: TaskShape = TaskShape()


_QUICK = Scope(("nanonet",), ("full", "tinytrain"), 2, TaskShape(queries=2))


def run(args: argparse.Namespace) -> int:
    """Measure, print, and write `args.page`. Returns 0.

    Raises:
        ValueError: a network is unknown, or a file of results is damaged.
        OSError: a file cannot be read or written.
        RuntimeError: the emulator or a compiler is missing.
    """
    scope = _QUICK if args.quick else Scope()
    networks = [find_network(name) for name in args.networks or scope.networks]
    rows = _measured(args, networks, scope.methods)
    accuracies = given_results(args.accuracy, "--accuracy") if args.accuracy else _small_tasks(args, networks, scope)
    found = evidence(networks, rows, accuracies, args.meta_trained)
    if args.page:
        write_file(args.page, page.page(found, rows, args.command_line))
    print(json.dumps(page.values(found), indent=1) if args.json else page.text(found, rows))
    return 0


def _measured(args: argparse.Namespace, networks: list[Network], methods: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of the methods on the networks. Rows of another version or with other settings stay in the file and do not count."""
    settings = {"domain": args.domain, "seed": args.seed, "iterations": args.iterations}
    about = {"version": keras_tinytrain.__version__, **settings}
    work = {
        tuple(map(str, (network.name, method, *about.values()))): (network, method)
        for network in networks
        for method in methods
        if method != "sparse_update" or network.scheme
    }
    done = {_key(row) for row in _read(args.out)}
    to_do = [each for each in work if each not in done]
    for each in track(to_do, description="tasks", console=Console(stderr=True)):
        network, method = work[each]
        row = {"network": network.name, "method": method, **about, **measure(network, method, **settings)}
        append_results(args.out, [row], FIELDS, num_keys=NUM_KEYS)
    return [row for row in _read(args.out) if _key(row) in work]


def _read(path):
    return read_results(path, FIELDS, num_keys=NUM_KEYS)


def _key(row):
    return tuple(row[field] for field in FIELDS[:NUM_KEYS])


def _small_tasks(args: argparse.Namespace, networks: list[Network], scope: Scope) -> list[dict[str, str]]:
    """Rows of a few tasks as `benchmark accuracy` runs them, kept in a file next to the other one."""
    path = pathlib.Path(args.out).with_suffix(".accuracy.csv")
    for network in networks:
        settings = Settings(network.name, "", (args.domain,), scope.shape, args.seed, scope.steps)
        done = {key(row) for row in read_results(path)}
        for rows in engines.run_local(settings, list(open_jobs(settings, ["tinytrain", "full"], args.episodes, done))):
            append_results(path, rows)
    return read_results(path)
