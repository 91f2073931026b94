"""The page teach.html: scripts, styles and the facts of a bundle in one file, which needs no network."""

import base64
import functools
import hashlib
import importlib.resources
import typing
from collections.abc import Mapping

if typing.TYPE_CHECKING:
    import jinja2

FILE = "teach.html"
_SCRIPTS = (  # in the order in which they need each other
    *("bytes.js", "prepare.js", "npz.js", "ports.js", "answers.js", "board.js"),
    *("memory.js", "drawings.js", "sources.js", "actions.js", "view.js", "app.js"),
)
_SAID = ("name", "namespace", "base_hash", "board", "class_names", "sample_values", "input", "head", "sketch", "sram", "flash")


def teach_page(manifest: Mapping[str, typing.Any]) -> str:
    """The page of a bundle.

    Its scripts are named by their hash, so that a browser runs no other, whatever a bundle's names hold.

    Args:
        manifest: of the bundle, with or without checksums.

    Raises:
        ImportError: jinja2 is not installed.
    """
    template, values = _template()
    return template.render(facts=_facts(manifest), **values)


@functools.cache
def _template() -> "tuple[jinja2.Template, dict[str, str]]":
    """The page's template, compiled once, and what is the same on every page."""
    try:
        import jinja2
    except ImportError as error:
        raise ImportError('The page needs jinja2. Install it with: pip install "keras-tinytrain[host]"') from error
    templates = importlib.resources.files(__package__) / "templates"
    script = '"use strict";\n' + "\n".join((templates / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    style = jinja2.utils.markupsafe.Markup((templates / "teach.css").read_text(encoding="utf-8"))
    values = {"script": jinja2.utils.markupsafe.Markup(script), "script_hash": digest, "style": style}
    return environment.get_template("teach.html.j2"), values


def _facts(manifest: Mapping[str, typing.Any]) -> dict[str, typing.Any]:
    """What the page knows of its bundle; what release 0.1 did not write is as it was then."""
    lacking = {"class_names": [], "sample_values": {"scale": 1.0, "offset": 0.0}}
    training = {name: manifest["training"][name] for name in ("num_classes", "max_samples", "iterations", "logit_scale")}
    closed_form = manifest.get("closed_form")
    return {
        **{name: manifest.get(name, lacking.get(name)) for name in _SAID},
        "training": training,
        "closed_form": closed_form is not None,
        "rejects": bool(closed_form and closed_form.get("reject_unknown", 0)),
    }
