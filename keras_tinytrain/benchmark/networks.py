"""The backbones of `benchmark accuracy`: where they come from, which images they see, and the budget of each."""

import dataclasses
import os

import keras

from keras_tinytrain import backbones
from keras_tinytrain.benchmark.cost import SPARSE_UPDATE
from keras_tinytrain.plan import Budget


@dataclasses.dataclass(frozen=True)
class Network:
    """A backbone and what the benchmark gives it.

    Args:
        function: name in `keras_tinytrain.backbones`.
        weights: what it starts from unless a file is named.
        budget: in the paper's accounting.
        scheme: SparseUpdate's, of those under `schemes.SCHEMES`, that the paper's table is nearest to; "" where there is none.
    """

    function: str
    weights: str
    budget: Budget
    scheme: str = ""

    def build(self, weights: str | os.PathLike | None = None) -> keras.Model:
        """The backbone, images -> embeddings."""
        return getattr(backbones, self.function)(weights=weights or self.weights)


# The budgets of the first three are the paper's memory and compute of TinyTrain (Kwon et al., ICML 2024, the main table).
NETWORKS = {
    "mcunet": Network("MCUNet", "imagenet", Budget("0.89MB", 6.51e6), SPARSE_UPDATE["MCUNet"]),
    "mobilenet_v2": Network("MobileNetV2", "imagenet", Budget("1.06MB", 4.90e6), SPARSE_UPDATE["MobileNetV2"]),
    "proxylessnas": Network("ProxylessNASNet", "imagenet", Budget("0.78MB", 5.00e6), SPARSE_UPDATE["ProxylessNASNet"]),
    "nanonet": Network("NanoNet", "omniglot", Budget("192KB", 0.15)),
    "gesturenet": Network("GestureNet", "invented", Budget("192KB", 0.15)),
}


def find_network(name: str) -> Network:
    """The network called `name`. Raises ValueError where there is none."""
    if name not in NETWORKS:
        raise ValueError(f"Known backbones: {', '.join(NETWORKS)}. Received: {name}")
    return NETWORKS[name]
