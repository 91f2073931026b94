"""The backbones of the benchmarks, with the weights and the budget of each. Loads no TensorFlow by itself."""

import dataclasses
import os
import typing

from keras_tinytrain.backbones.names import find_backbone
from keras_tinytrain.benchmark.published import PAPER, SPARSE_UPDATE
from keras_tinytrain.plan import Budget

if typing.TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Network:
    """A backbone, with its weights and its budget in the benchmarks.

    Args:
        name: of `backbones.names.BACKBONES`.
        weights: that it starts from unless a file is named.
        budget: in the paper's accounting.
        scheme: SparseUpdate's, of those under `schemes.SCHEMES`, that the paper's table is nearest to; "" where there is none.
        paper_name: in the paper's tables (`published`); "" where it is not there.
    """

    name: str
    weights: str
    budget: Budget
    scheme: str = ""
    paper_name: str = ""

    def build(self, weights: str | os.PathLike | None = None) -> "keras.Model":
        """The backbone, images -> embeddings."""
        return find_backbone(self.name)(weights=weights or self.weights)


def _of_the_paper(name, paper_name):
    """With the memory and the compute that the paper gives TinyTrain (Kwon et al., ICML 2024, the main table)."""
    memory, macs = PAPER[paper_name, "TinyTrain"]
    return Network(name, "imagenet", Budget(f"{memory}MB", macs), SPARSE_UPDATE[paper_name], paper_name)


NETWORKS = {
    network.name: network
    for network in (
        _of_the_paper("mcunet", "MCUNet"),
        _of_the_paper("mobilenet_v2", "MobileNetV2"),
        _of_the_paper("proxylessnas", "ProxylessNASNet"),
        Network("nanonet", "omniglot", Budget("192KB", 0.15)),
        Network("gesturenet", "invented", Budget("192KB", 0.15)),
    )
}


def find_network(name: str) -> Network:
    """The network called `name`. Raises ValueError where there is none."""
    if name not in NETWORKS:
        raise ValueError(f"Known backbones: {', '.join(NETWORKS)}. Received: {name}")
    return NETWORKS[name]
