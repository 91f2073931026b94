"""Import paths of version 0.1 that its README named."""

import importlib
import sys

import pytest

from keras_tinytrain._old_paths import _MOVED


@pytest.mark.parametrize(
    "old, new, name",
    [
        ("keras_tinytrain.cost", "keras_tinytrain.choose.paper_cost", "forward_macs"),
        ("keras_tinytrain.device", "keras_tinytrain.run", "Device"),
        ("keras_tinytrain.domains", "keras_tinytrain.data", "load_digits"),
        ("keras_tinytrain.domains.npz", "keras_tinytrain.data.npz", "load_npz"),
        ("keras_tinytrain.edge", "keras_tinytrain.run", "EdgeRuntime"),
        ("keras_tinytrain.export.on_grid", "keras_tinytrain.run", "on_grid_model"),
        ("keras_tinytrain.fewshot.task_plan", "keras_tinytrain.fewshot", "choose_for_task"),
        ("keras_tinytrain.layers", "keras_tinytrain.model", "layer_table"),
        ("keras_tinytrain.sparse", "keras_tinytrain.fit", "sparse_train_step"),
        ("keras_tinytrain.strategies", "keras_tinytrain.choose", "strategy"),
    ],
)
def test_moved_module_warns_and_has_the_same_names(old, new, name):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match="has moved to keras_tinytrain"):
        module = importlib.import_module(old)
    assert getattr(module, name) is getattr(importlib.import_module(new), name)
    assert module.__spec__.name == module.__name__ != old  # one module, not a second copy of it


def test_moved_name_warns_and_is_the_same_object():
    import keras_tinytrain.export
    from keras_tinytrain.run import HostRuntime

    with pytest.warns(DeprecationWarning, match="keras_tinytrain.export.HostRuntime has moved to keras_tinytrain.run"):
        assert keras_tinytrain.export.HostRuntime is HostRuntime


@pytest.mark.parametrize("old", _MOVED)
def test_moved_module_points_to_one_that_exists(old):
    assert importlib.util.find_spec(f"keras_tinytrain.{_MOVED[old]}")


def test_module_that_never_existed_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="keras_tinytrain.edges"):
        importlib.import_module("keras_tinytrain.edges")
