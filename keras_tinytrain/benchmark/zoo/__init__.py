"""Networks as people bring them: each is a function whose docstring names its source, and returns a model without weights of its own."""

from collections.abc import Callable

import keras

from keras_tinytrain.benchmark.zoo import applications, convolutions, files, refused, sensors

Build = Callable[[], keras.Model]
NETWORKS: dict[str, Build] = {
    build.__name__: build for folder in (sensors, convolutions, refused, applications) for build in folder.NETWORKS
}


def network(name: str, folder: str = "") -> Build:
    """The function that builds a network of `NETWORKS`, or of the files in `folder`. Raises ValueError where there is none."""
    known = known_networks(folder)
    if name not in known:
        raise ValueError(f"There is no network {name!r}. Known are: {', '.join(known)}; those of MLPerf Tiny with --files.")
    return known[name]


def known_networks(folder: str = "") -> dict[str, Build]:
    """{name: function} of all networks."""
    return {**files.networks_in(folder), **NETWORKS}
