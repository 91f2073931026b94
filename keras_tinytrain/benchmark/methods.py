"""The methods of `benchmark accuracy` by name: what each trains, at which learning rate, and whether it averages."""

import dataclasses
import typing

from keras_tinytrain.benchmark.networks import find_network
from keras_tinytrain.choose.schemes import SCHEMES


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to learn a task.

    Args:
        name: as in tables and on the command line.
        strategy: a key of `strategies.STRATEGIES`, or one of the methods that are more than a choice of channels: "none",
            "static", "transductive", "tinytl".
        learning_rate: Adam's.
        drop: of the lite residual modules ("tinytl"), the fraction of blocks from the first on that get none.
        rule, kinds: of `planner.choose`.
        average: weight of the original network in a prediction, see `fewshot.adapt`; 0 for none.
        leave_one_out: whether a sample's own image is left out of its prototype while training.
        ridge: whether the closed-form head answers, see `FewShotClassifier.with_ridge_head`.
        auto: whether that head answers where it holds by its samples, see `fewshot.adapt(head="auto")`.
        gated: whether nothing is trained where that head needs no training, see `fewshot.adapt(only_if_needed=True)`.
        stop_loss, skip_loss, late_prototypes: of `fewshot.adapt`, to take less time.
    """

    name: str
    strategy: str
    learning_rate: float
    drop: float = 0.0
    rule: str = "layers"
    kinds: str = "pointwise"
    average: float = 0.0
    leave_one_out: bool = False
    ridge: bool = False
    auto: bool = False
    gated: bool = False
    stop_loss: float = 0.0
    skip_loss: float = 0.0
    late_prototypes: bool = False


# Rates were chosen beforehand, on other tasks than those of the tables in docs/results/, which says by which commands. The
# ablations take TinyTrain's rate, AdapterDrop TinyTL's.
_BASES = {
    method.name: method
    for method in (
        Method("none", "none", 0.0),
        Method("ridge", "none", 0.0, ridge=True),
        Method("last_layer", "last_layer", 3e-3),
        Method("full", "full", 1e-4),
        Method("transductive", "transductive", 3e-5),
        Method("tinytl", "tinytl", 3e-4),
        Method("adapterdrop_25", "tinytl", 3e-4, drop=0.25),
        Method("adapterdrop_50", "tinytl", 3e-4, drop=0.5),
        Method("adapterdrop_75", "tinytl", 3e-4, drop=0.75),
        Method("tinytrain", "fisher", 3e-3),
        Method("tinytrain_knapsack", "fisher", 3e-3, rule="channels"),
        Method("tinytrain_all", "fisher", 3e-3, kinds="all"),
        Method("l2", "l2", 3e-3),
        Method("random", "random", 3e-3),
        Method("static", "static", 3e-3),
        Method("bias_only", "bias_only", 3e-3),
    )
}
_SUFFIXES: dict[str, dict[str, typing.Any]] = {
    "_avg": {"average": 0.5},
    "_gated": {"ridge": True, "gated": True},
    "_auto": {"auto": True},
    "_ridge": {"ridge": True},
    "_stop": {"stop_loss": 0.05},
    "_skip": {"skip_loss": 0.01},
    "_late": {"late_prototypes": True},
    "_loo": {"leave_one_out": True},
}
_WITHOUT_OPTIONS = ("none", "ridge", "transductive")


def find_method(name: str, backbone: str, learning_rates: dict[str, float] | None = None) -> Method:
    """The method called `name`.

    Args:
        name: one of `method_names(backbone)`. With "_loo" after it prototypes leave one out while training, with "_late" they are of
            the iteration before, with "_skip" and "_stop" learned samples and iterations are left out. With "_ridge" the
            closed-form head answers, with "_auto" it does where it holds, with "_gated" it does and what it gets right is not trained; with "_avg" the answers are
            averaged with the original network's. All in this order.
        backbone: a key of `networks.NETWORKS`; SparseUpdate's schemes depend on it.
        learning_rates: {base name or full name: Adam's rate} in place of the built-in ones.

    Raises:
        ValueError: there is no such method.
    """
    base = name
    options: dict[str, typing.Any] = {}
    for suffix, of_suffix in _SUFFIXES.items():
        if base.endswith(suffix):
            base, options = base.removesuffix(suffix), {**options, **of_suffix}
    methods = _methods(backbone)
    if base not in methods or (base in _WITHOUT_OPTIONS and options):
        raise ValueError(
            f"Known methods: {', '.join(methods)}; each also with _loo, _late, _skip, _stop, _ridge (or _auto or _gated) and _avg in this order, except "
            f"{', '.join(_WITHOUT_OPTIONS)}. Received: {name}"
        )
    rates = learning_rates or {}
    rate = rates.get(name, rates.get(base, methods[base].learning_rate))
    return dataclasses.replace(methods[base], name=name, learning_rate=rate, **options)


def method_names(backbone: str) -> list[str]:
    """Names of the methods of a backbone, without suffixes."""
    return list(_methods(backbone))


def _methods(backbone):
    """SparseUpdate's schemes by their own names, the one that the paper's table is nearest to as "sparse_update" too."""
    schemes = {f"sparse_update_{scheme}": scheme for scheme in SCHEMES.get(backbone, ())}
    nearest = find_network(backbone).scheme
    schemes |= {"sparse_update": nearest} if nearest else {}
    updates = {name: Method(name, f"sparse_update {scheme}", 1e-3) for name, scheme in schemes.items()}
    return {**_BASES, **updates}
