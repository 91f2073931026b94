"""Few-shot tasks drawn from a domain: so many ways, so many shots, all from one random generator."""

import dataclasses

import numpy as np

from keras_tinytrain.data import Domain


@dataclasses.dataclass(frozen=True)
class Episode:
    """One few-shot task; labels run from 0 to ways - 1.

    Args:
        support_x: float32 (ways * shots, height, width, channels), class by class.
        support_y: int64 (ways * shots,).
        query_x: float32 (num_queries, height, width, channels), class by class.
        query_y: int64 (num_queries,).
        classes: (ways,), the domain's label of each class; empty where they are not known.
    """

    support_x: np.ndarray
    support_y: np.ndarray
    query_x: np.ndarray
    query_y: np.ndarray
    classes: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64), kw_only=True)


def sample_episode(
    domain: Domain, *, ways: int = 5, shots: int = 5, queries: int | None = None, rng: np.random.Generator
) -> Episode:
    """Draw classes, then samples, uniformly and without replacement.

    Args:
        domain: where to draw from.
        ways: number of classes.
        shots: support samples per class.
        queries: query samples per class; None takes all that are left.
        rng: source of all randomness, e.g. `np.random.default_rng(0)`.

    Returns:
        An Episode.

    Raises:
        ValueError: the domain has too few classes, or a class too few samples.
    """
    support, query, support_y, query_y = sample_indices(
        domain.labels, ways=ways, shots=shots, queries=queries, rng=rng, groups=domain.groups
    )
    return episode_of(domain, support, query, support_y, query_y)


def episode_of(domain: Domain, support: np.ndarray, query: np.ndarray, support_y: np.ndarray, query_y: np.ndarray) -> Episode:
    """The task of these samples: indices int64 (n,) into the domain, and their labels in the task, class by class."""
    classes = domain.labels[support[np.searchsorted(support_y, np.unique(support_y))]]
    return Episode(domain.images[support], support_y, domain.images[query], query_y, classes=classes)


def sample_indices(labels, *, ways, shots, queries=None, rng, groups=None):
    """As `sample_episode`, but which samples: (support, query, support_y, query_y), each int64 (n,)."""
    classes = np.unique(labels)
    if ways > classes.size:
        raise ValueError(f"An episode of {ways} ways was asked for, but there are {classes.size} classes.")
    support, query = [], []
    for label in rng.choice(classes, ways, replace=False):
        members = np.flatnonzero(labels == label)
        first, rest = _split(rng.permutation(members), shots, groups)
        if len(first) < shots or len(rest) < (1 if queries is None else queries):
            raise ValueError(
                f"Class {label} has {members.size} samples, too few for {shots} shots and {queries or 'some'} queries"
                + (" from other groups." if groups is not None else ".")
            )
        support.append(first)
        query.append(rest if queries is None else rest[:queries])
    return (*map(np.concatenate, (support, query)), _numbered(support), _numbered(query))


def _split(members, shots, groups):
    """Support and candidates for queries; a group that gave to the support gives nothing to the queries."""
    if groups is None:
        return members[:shots], members[shots:]
    # Whole groups in random order, until they hold enough for the support.
    order = {group: rank for rank, group in enumerate(dict.fromkeys(groups[members].tolist()))}
    members = np.array(sorted(members, key=lambda member: order[groups[member]]), dtype=np.int64)
    first = members[:shots]
    return first, members[~np.isin(groups[members], groups[first])]


def _numbered(parts):
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts])
