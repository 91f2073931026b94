"""The methods of `benchmark fit`: what each trains, and Adam's learning rate."""

import dataclasses

from keras_tinytrain.plan import Budget


@dataclasses.dataclass(frozen=True)
class FitMethod:
    """One way to fit a backbone with a new head.

    Args:
        name: in tables.
        trains: "head"; "plan", by TinyTrainCallback within `budget`; or "all".
        learning_rate: Adam's, as `--choose-rates` found it.
        rates: those that `--choose-rates` compares.
        budget: of the callback.
        batch_norm: whether each convolution of the backbone is followed by BatchNorm, which is trained and follows the batches.
    """

    name: str
    trains: str
    learning_rate: float
    rates: tuple[float, ...]
    budget: Budget | None = None
    batch_norm: bool = False


# Rates: the best mean over three domains, of
#     keras-tinytrain benchmark fit --choose-rates --weights <mcunet-5fps> --domains even:<signs> even:<objects> even:<textures> --out rates.csv
# For tinytrain_256kb two rates were .4 points apart; two further splits (--seeds 101 102 --learning-rate ...) decided.
METHODS = {
    method.name: method
    for method in (
        FitMethod("head", "head", 3e-2, (3e-3, 1e-2, 3e-2, 1e-1)),
        FitMethod("tinytrain_256kb", "plan", 3e-3, (1e-3, 3e-3, 1e-2, 3e-2), Budget("256KB", 0.15)),
        FitMethod("tinytrain_1mb", "plan", 3e-3, (1e-3, 3e-3, 1e-2, 3e-2), Budget("1MB", 0.5)),
        FitMethod("full", "all", 3e-4, (1e-4, 3e-4, 1e-3, 3e-3)),
        FitMethod("full_batch_norm", "all", 3e-4, (1e-4, 3e-4, 1e-3, 3e-3), batch_norm=True),
    )
}


def find_fit_method(name: str) -> FitMethod:
    """The method called `name`. Raises ValueError where there is none."""
    if name not in METHODS:
        raise ValueError(f"Known methods: {', '.join(METHODS)}. Received: {name}")
    return METHODS[name]
