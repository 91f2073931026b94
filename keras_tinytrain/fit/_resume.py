"""Resume an interrupted training with its plan, its base model and its optimizer's state.

`keras.callbacks.BackupAndRestore` restores weights and epoch. The rest is kept in its folder, and removed with it.
"""

import os
import pathlib

import h5py
import keras

from keras_tinytrain.delta import Delta
from keras_tinytrain.plan import Plan

_PLAN, _BASE, _WEIGHTS = "tinytrain_plan.json", "tinytrain_base.delta", "latest.weights.h5"


def keep(backup_dir: str | os.PathLike, plan: Plan, base: Delta) -> None:
    """Save the plan, and the values of the chosen channels before training."""
    folder = pathlib.Path(backup_dir)
    folder.mkdir(parents=True, exist_ok=True)
    base.save(folder / _BASE)
    plan.save(folder / _PLAN)


def kept(backup_dir: str | os.PathLike) -> tuple[Plan, Delta] | None:
    """The plan and the values that `keep` saved, where an interrupted training is resumed; else None."""
    folder = pathlib.Path(backup_dir)
    if not ((folder / _PLAN).exists() and (folder / _WEIGHTS).exists()):
        return None
    return Plan.load(folder / _PLAN), Delta.load(folder / _BASE)


def load_optimizer(backup_dir: str | os.PathLike, optimizer: keras.optimizers.Optimizer) -> None:
    """Give a `sparse.channel_optimizer` the state that was backed up with the weights."""
    with h5py.File(pathlib.Path(backup_dir) / _WEIGHTS) as file:
        optimizer.load_own_variables(file["optimizer/vars"])
