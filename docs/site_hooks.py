"""Of `mkdocs build`: the repository's pages of the root join the site, links find them, and the package is seen as it is installed."""

import pathlib
import posixpath
import re
import tempfile

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "DESIGN.md", "SECURITY.md")
_SOURCES = tempfile.TemporaryDirectory(prefix="keras_tinytrain_site_")  # is removed when the build ends
_EXAMPLE = re.compile(r"^# (examples/\w+\.py)$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config):
    """Let the reference be read from a package that holds `export` and `tflm_runtime`, as `setup.py` installs it."""
    package = pathlib.Path(_SOURCES.name, "keras_tinytrain")
    for source, target in (
        (ROOT / "keras_tinytrain", package),
        *((ROOT / name, package / name) for name in ("export", "tflm_runtime")),
    ):
        for file in source.rglob("*.py"):
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            text = file.read_text(encoding="utf-8")
            copy.write_text(
                re.sub(r"^( +)Example:$", r"\1Examples:", text, flags=re.MULTILINE), encoding="utf-8"
            )  # as griffe has it
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_SOURCES.name]
    return config


def on_files(files, config):
    """Pages of the root join the pages of docs/."""
    for name in PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown, page, config, files):
    """A link of a page as it is in the repository becomes one of the site, or one into the repository. Code that names an example is
    the example."""
    uri = page.file.src_uri
    home = uri if uri in PAGES else f"docs/{uri}"  # in the repository

    def linked(match):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(home), match[1]))
        in_site = target.removeprefix("docs/") if target.startswith("docs/") else target if target in PAGES else None
        if in_site is None:
            if not (ROOT / target).exists():
                raise ValueError(f"{home} links to {match[1]}, which does not exist.")
            return f"]({config.repo_url}/blob/main/{target})"
        return f"]({posixpath.relpath(in_site, posixpath.dirname(uri) or '.')}{match[2] or ''})"

    return _EXAMPLE.sub(lambda found: (ROOT / found[1]).read_text(encoding="utf-8").rstrip(), _LINK.sub(linked, markdown))


def on_page_content(html, page, config, files):
    """A notebook's link to a page, too: mkdocs sees those of Markdown alone."""
    return re.sub(r'href="(\w+)\.md"', r'href="../\1/"', html) if page.file.src_uri.endswith(".ipynb") else html
