"""What several files of this folder need once."""

import dataclasses

import pytest

from tests.runtime import programs, sanitized
from tests.runtime.small_net import small_net
from tests.runtime.trainers import VIEWS, Setup


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """Where `cmake --install` puts the runtime."""
    return programs.install(tmp_path_factory.mktemp("cmake_build"), tmp_path_factory.mktemp("prefix"))


@pytest.fixture(scope="session")
def runtime_of_32_bits(tmp_path_factory):
    """The runtime's object files in 32 bits, with sanitizers."""
    return sanitized.compile_runtime(tmp_path_factory.mktemp("runtime32"))


@pytest.fixture(scope="session")
def setup(tmp_path_factory):
    return Setup(small_net(), tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def with_views(tmp_path_factory):
    return Setup(dataclasses.replace(small_net(), views=VIEWS, bound={}), tmp_path_factory.mktemp("views"))


@pytest.fixture(scope="session")
def softmax(tmp_path_factory):
    return Setup(small_net("softmax"), tmp_path_factory.mktemp("softmax"))
