"""Meta-Dataset's sampler: tasks of varying way and shot whose classes are as unequal as the data are.

All formulas: Triantafillou et al., "Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples", ICLR 2020,
section 3.2 and appendix. Class hierarchies (ImageNet's tree, Omniglot's alphabets) are left out: classes are drawn uniformly.
"""

import dataclasses

import numpy as np

from keras_tinytrain.data import Domain
from keras_tinytrain.data.episodes import Episode, episode_of


@dataclasses.dataclass(frozen=True)
class SamplerLimits:
    """Constants of the sampler; the defaults are Meta-Dataset's.

    Args:
        min_ways, max_ways: the number of classes is uniform between them.
        max_queries: query samples per class at most.
        max_support: support samples of all classes together at most.
        max_support_per_class: a class counts for no more than so many when the support's size is drawn.
    """

    min_ways: int = 5
    max_ways: int = 50
    max_queries: int = 10
    max_support: int = 500
    max_support_per_class: int = 100


def sample_meta_dataset_episode(
    domain: Domain, *, rng: np.random.Generator, limits: SamplerLimits = SamplerLimits()
) -> Episode:
    """Draw a task as Meta-Dataset does.

    Args:
        domain: where to draw from. Samples of one group stay on one side: half of a class's groups may give to the support, the
            others to the queries.
        rng: source of all randomness.
        limits: constants.

    Returns:
        An Episode; every class has as many queries, at least one, and at least one support sample.

    Raises:
        ValueError: the domain has fewer than `min_ways` classes with two samples (of two groups, where there are groups).

    Example:
        >>> images = np.zeros((60, 1, 1, 1), np.float32)
        >>> episode = sample_meta_dataset_episode(Domain("d", images, np.arange(60) % 6), rng=np.random.default_rng(0))
        >>> np.bincount(episode.query_y).tolist(), len(episode.support_y) >= 5
        ([5, 5, 5, 5, 5, 5], True)
    """
    support, query, support_y, query_y = sample_meta_dataset_indices(
        domain.labels, rng=rng, groups=domain.groups, limits=limits
    )
    return episode_of(domain, support, query, support_y, query_y)


def sample_meta_dataset_indices(
    labels: np.ndarray,
    *,
    rng: np.random.Generator,
    groups: np.ndarray | None = None,
    limits: SamplerLimits = SamplerLimits(),
) -> tuple[np.ndarray, ...]:
    """As `sample_meta_dataset_episode`, but which samples: (support, query, support_y, query_y), each int64 (n,)."""
    sides = {label: _sides(rng.permutation(np.flatnonzero(labels == label)), groups) for label in np.unique(labels)}
    usable = [label for label, (support, query) in sides.items() if len(support) and len(query)]
    if len(usable) < limits.min_ways:
        what = "samples" if groups is None else "groups of samples"
        raise ValueError(f"Meta-Dataset's sampler needs {limits.min_ways} classes of two {what}. Received: {len(usable)}")
    ways = rng.integers(limits.min_ways, min(limits.max_ways, len(usable)) + 1)
    chosen = [sides[label] for label in rng.choice(usable, ways, replace=False)]
    # q = min(10, min_c floor(|Im(c)| / 2)); the query side of a class holds that half
    num_queries = min(limits.max_queries, min(len(query) for _, query in chosen))
    pools = [_pool(support, query, num_queries, groups) for support, query in chosen]
    sizes = np.array([len(support) + len(query) for support, query in chosen])
    counts = support_counts(sizes, np.array([len(pool) for pool in pools]), rng, limits)
    support, query = [pool[:count] for pool, count in zip(pools, counts)], [query[:num_queries] for _, query in chosen]
    numbers = np.arange(ways)
    return np.concatenate(support), np.concatenate(query), np.repeat(numbers, counts), np.repeat(numbers, num_queries)


def support_counts(
    sizes: np.ndarray, remaining: np.ndarray, rng: np.random.Generator, limits: SamplerLimits = SamplerLimits()
) -> np.ndarray:
    """Support samples per class.

        |S|   = min(500, sum_c ceil(beta min(100, remaining_c))),            beta ~ U(0, 1]
        R_c   = exp(a_c) |Im(c)| / sum_c' exp(a_c') |Im(c')|,                a_c ~ U(log 1/2, log 2)
        |S_c| = min(floor(R_c (|S| - ways)) + 1, remaining_c)

    Args:
        sizes: |Im(c)|, samples of each class, int (ways,).
        remaining: those that are not taken by the queries, int (ways,), each at least 1.
        rng: draws beta, then a_c.
        limits: the constants 500 and 100.

    Returns:
        int64 (ways,), each at least 1.
    """
    beta = 1 - rng.random()  # in (0, 1]
    contributions = np.ceil(beta * np.minimum(limits.max_support_per_class, remaining))
    total = min(limits.max_support, int(contributions.sum()))
    weights = np.exp(rng.uniform(np.log(0.5), np.log(2), len(sizes))) * sizes
    desired = np.floor(weights / weights.sum() * (total - len(sizes))).astype(np.int64) + 1
    return np.minimum(desired, remaining)


def _sides(members, groups):
    """A class's samples in random order: those that only the support may take, and half of all for the queries."""
    if groups is None:
        half = len(members) // 2
        return members[half:], members[:half]
    order = list(dict.fromkeys(groups[members].tolist()))
    for_queries = np.isin(groups[members], order[: len(order) // 2])
    return members[~for_queries], members[for_queries]


def _pool(support, query, num_queries, groups):
    """Samples that the support may take: without groups also those of the query side that are not needed there."""
    return support if groups is not None else np.concatenate([support, query[num_queries:]])
