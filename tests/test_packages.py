"""The package as it is published: without a compiler it installs without its extension; README's links lead somewhere on an index."""

import pathlib
import re
import runpy
import shutil

import pytest
import setuptools

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture
def setup_py(monkeypatch):
    """The names of setup.py, and in "given" what it gives to `setuptools.setup`, which is not run."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **values: given.update(values))
    monkeypatch.chdir(ROOT)
    return {**runpy.run_path(str(ROOT / "setup.py")), "given": given}


@pytest.mark.parametrize("compiler", [None, "/usr/bin/c++"])
def test_extension_is_left_out_where_there_is_no_compiler(setup_py, monkeypatch, caplog, compiler):
    built = []
    monkeypatch.setattr(shutil, "which", lambda name: compiler)
    monkeypatch.setattr(setup_py["build_ext"], "run", lambda self: built.extend(self.extensions))
    build = setup_py["BuildWithACompiler"](setuptools.Distribution())
    build.extensions = list(setup_py["given"]["ext_modules"])
    build.run()
    assert len(built) == (compiler is not None)


def test_links_of_readme_lead_into_the_repository(setup_py):
    shown = setup_py["given"]["long_description"]
    links = re.findall(r"\]\(([^)]+)\)", shown)
    assert len(links) > 10 and all(link.startswith("https://") for link in links)
    assert re.search(r"!\[[^]]+\]\(https://\S+/raw/main/docs/images/report.png\)", shown)


def test_packages_are_all_folders_of_the_source(setup_py):
    folders = {
        init.parent.relative_to(ROOT)
        for root in ("keras_tinytrain", "export", "tflm_runtime")
        for init in ROOT.glob(f"{root}/**/__init__.py")
    }
    homes = {home: package for package, home in setup_py["given"]["package_dir"].items()}
    names = {".".join((homes.get(folder.parts[0], folder.parts[0]), *folder.parts[1:])) for folder in folders}
    assert names == set(setup_py["given"]["packages"])
