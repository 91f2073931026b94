"""README and the pages of docs/ hold: their Python runs, their commands are commands, their links lead somewhere."""

import json
import pathlib
import re
import shlex

import numpy as np
import pytest

from keras_tinytrain import Delta, cli
from keras_tinytrain.choose import strategies
from keras_tinytrain.data import load_npz
from keras_tinytrain.fewshot import classifier_from_delta
from keras_tinytrain.model import load_model

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
ROOT_PAGES = [ROOT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "DESIGN", "SECURITY")]
NOTEBOOK = DOCS / "start" / "digits.ipynb"
EXAMPLE = re.compile(r"^# (examples/\w+\.py)\n", re.MULTILINE)  # stands for the example, which runs in test_examples
TYPED = [ROOT / "README.md", ROOT / "examples/arduino/README.md", *sorted((DOCS / "start").glob("*.md"))]
TYPED += [DOCS / "index.md", *sorted((DOCS / "guide").glob("*.md"))]
CODE = re.compile(r"^    [^\n]*$|^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _name(path):
    return str(path.relative_to(ROOT))


def _blocks(path):
    """The Python of a page or a notebook, in order."""
    if path.suffix == ".ipynb":
        return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def _written_out(code):
    """`code` with the example that it names in place of its name, in short: whole it runs in test_examples."""
    return EXAMPLE.sub(lambda found: (ROOT / found[1]).read_text().replace("epochs=10", "epochs=1"), code)


def _run(path):
    """Run the code of a page in this folder. Returns its names; strategies that it registered are taken back."""
    names, known = {"__name__": "page"}, dict(strategies.STRATEGIES)
    try:
        for code in _blocks(path):
            exec(compile(_written_out(code), _name(path), "exec"), names)  # noqa: S102 the project's own pages
        return names, strategies.STRATEGIES.keys() - known.keys()
    finally:
        strategies.STRATEGIES.clear()
        strategies.STRATEGIES.update(known)


@pytest.mark.slow
def test_page_of_keras_learns_adds_a_class_and_saves(in_folder):
    names, _ = _run(DOCS / "start/keras.md")
    again = classifier_from_delta(names["backbone"], Delta.load("task.delta"))
    x = names["task"].query_x
    np.testing.assert_allclose(again.logits(x), names["learned"].logits(x), rtol=1e-5, atol=1e-5)
    assert again.num_classes == 4 and set(names["solved"].predict(x)) <= {-1, 0, 1, 2, 3}
    assert names["callback"].delta.records


def test_page_for_researchers_adds_a_strategy(in_folder):
    assert _run(DOCS / "start/researcher.md")[1] == {"mean_channel"}
    assert _run(ROOT / "CONTRIBUTING.md")[1] == {"mean_channel"}


@pytest.mark.slow
def test_page_of_the_raspberry_pi_learns_in_a_bundle(in_folder):
    pytest.importorskip("ai_edge_litert")
    names, _ = _run(DOCS / "start/raspberry_pi.md")
    assert names["losses"][-1] < names["losses"][0]


def test_page_of_gestures_writes_recordings_and_a_network(in_folder):
    names, _ = _run(DOCS / "start/gestures.md")
    np.testing.assert_array_equal(load_npz("gestures.npz").labels, names["labels"])
    assert load_model("gesture.keras").output_shape == (None, 64)


@pytest.mark.slow
def test_notebook_runs_and_shows_what_it_did(in_folder):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    names, _ = _run(NOTEBOOK)
    x, y = names["task"].query_x, names["task"].query_y
    assert names["learned"].evaluate(x, y) > names["before"].evaluate(x, y)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")


def test_every_page_with_code_is_run_here():
    """An example alone runs in test_examples."""
    pages = {path.stem for path in PAGES if any(EXAMPLE.sub("", code) for code in _blocks(path))}
    assert pages == {"README", "keras", "researcher", "raspberry_pi", "gestures"}


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("path", TYPED, ids=_name)
def test_commands_of_a_page_are_commands(path):
    typed = re.findall(r"^    (?:.*&& )?keras-tinytrain (.*)$", path.read_text(), re.MULTILINE)
    for command in typed:
        cli._parser().parse_args(shlex.split(command, comments=True))


@pytest.mark.parametrize("path", [*PAGES, *ROOT_PAGES], ids=_name)
def test_links_of_a_page_lead_somewhere(path):
    for target in LINK.findall(CODE.sub("", path.read_text())):
        address, _, _ = target.partition("#")
        if "://" in target:
            assert re.fullmatch(r"https://[\w.-]+\.[a-z]+(/[^\s]*)?", target), target
        elif address:
            assert (path.parent / address).exists(), f"{_name(path)} links to {target}"
