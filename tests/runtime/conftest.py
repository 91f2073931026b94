"""What several files of this folder need once."""

import pytest

from tests.runtime import programs


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """Where `cmake --install` puts the runtime."""
    return programs.install(tmp_path_factory.mktemp("cmake_build"), tmp_path_factory.mktemp("prefix"))
