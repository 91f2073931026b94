"""A few-shot domain: images with labels, in the input convention of the models."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Domain:
    """Labelled images from which few-shot tasks are drawn.

    Args:
        name: what messages and tables call it.
        images: float32 (N, height, width, channels) in [0, 1]; glyphs and sketches have ink 1 on a background of 0. Or motion,
            (N, steps, 1, 6), see `motion.network_motion`.
        labels: int64 (N,). Any integers; an episode numbers its classes anew.
        groups: None, or int64 (N,): samples of one group are near-duplicates and stay on one side of support and query.

    Raises:
        ValueError: the arrays do not fit together.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None

    def __post_init__(self):
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"Domain '{self.name}' expects images (N, height, width, channels) and labels (N,). "
                f"Received: {self.images.shape} and {self.labels.shape}"
            )
        if self.groups is not None and self.groups.shape != self.labels.shape:
            raise ValueError(f"Domain '{self.name}' has {self.labels.size} labels but groups of shape {self.groups.shape}.")

    @property
    def num_classes(self) -> int:
        return np.unique(self.labels).size


def every_second_class(domain: Domain, which: str) -> Domain:
    """The classes with even or odd numbers in the sorted order of labels; "all" of them."""
    if which == "all":
        return domain
    numbers = np.unique(domain.labels, return_inverse=True)[1]
    kept = numbers % 2 == ("even", "odd").index(which)
    groups = None if domain.groups is None else domain.groups[kept]
    name = f"{domain.name} ({which} classes)"
    return dataclasses.replace(domain, name=name, images=domain.images[kept], labels=domain.labels[kept], groups=groups)
