"""PyTorch, as far as its files name it."""

import sys
import types

import pytest


@pytest.fixture
def torch(monkeypatch):
    """A stand-in whose names are those that torch.save writes."""

    def rebuild(*arguments):
        raise AssertionError("called")

    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "IntStorage"):
        setattr(module, name, type(name, (), {"__module__": "torch"}))
    rebuild.__module__, rebuild.__qualname__, rebuild.__name__ = "torch._utils", "_rebuild_tensor_v2", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2, module._utils = rebuild, utils
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return module
