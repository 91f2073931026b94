"""How well prototypes alone do: accuracy over many episodes on features computed once."""

import dataclasses
import math

import keras
import numpy as np

from keras_tinytrain.data import Domain, resize
from keras_tinytrain.data.episodes import sample_indices
from keras_tinytrain.fewshot.prototypes import class_prototypes, cosine_logits


def prototype_accuracy(
    model: keras.Model, domain: Domain, *, ways: int = 5, shots: int = 5, num_episodes: int = 100, seed: int = 0
) -> tuple[float, float]:
    """Mean query accuracy without any adaptation, and half of its 95 % confidence interval over episodes.

    Args:
        model: maps images of the domain to features float32 (N, D).
        domain: where episodes are drawn from, `ways` and `shots` as in `sample_episode`; all other samples are queries.
        num_episodes: how many, at least 2.
        seed: fixes the episodes.

    Returns:
        (accuracy, half-width), fractions of 1.
    """
    features, rng = model.predict(domain.images, batch_size=256, verbose=0), np.random.default_rng(seed)
    accuracies = []
    for _ in range(num_episodes):
        support, query, support_y, query_y = sample_indices(
            domain.labels, ways=ways, shots=shots, rng=rng, groups=domain.groups
        )
        logits = cosine_logits(features[query], class_prototypes(features[support], support_y, ways))
        accuracies.append(np.mean(np.argmax(logits, axis=1) == query_y))
    return float(np.mean(accuracies)), 1.96 * float(np.std(accuracies, ddof=1)) / math.sqrt(num_episodes)


def coarse_scans(domain: Domain, *, resolution: int = 8) -> Domain:
    """The domain as a scanner of `resolution` x `resolution` pixels sees it, interpolated back to its size."""
    height, width = domain.images.shape[1:3]
    images = resize(resize(domain.images, resolution, resolution), height, width)
    return dataclasses.replace(domain, name=f"{domain.name} at {resolution}x{resolution}", images=images)
