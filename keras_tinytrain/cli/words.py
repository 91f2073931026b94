"""An error in the words of the command line: what Python calls a parameter, a user types as an option."""

import argparse
import re
from collections.abc import Mapping

from keras_tinytrain.export.settings import FLAGS

# Options of `export`, which errors of other commands name too. A command's own options are known by its arguments.
_OF_EXPORT = {
    **FLAGS,
    "iterations": "--iterations",
    "overwrite": "--overwrite",
    "project": "--for",
    "sketch": "--sketch",
    "split": "--split",
    "weights_in_ram": "--weights-in-ram",
}
_NOT_OPTIONS = ("action", "benchmark", "command_line", "model", "run")  # set by the parser, or named by their place
_PARAMETER = re.compile(r"(?<![-\w])([a-z]\w*)=('[^']*'|\"[^\"]*\"|<\w+>|\.\.\.|\w+(?:\.\w+)*)")
_EXPECTS = re.compile(r"(?<![-\w])([a-z]\w*)(?= expects? )")
_VERBATIM = re.compile(r"(`[^`]*`|\b[A-Z]\w*\((?:[^()]|\([^()]*\))*\))")  # as one types it: code, and a call in Python
_SETTINGS = re.compile(r"(?:Budget|TrainingSettings)\(([^()]*)\)")  # whose arguments may all be options
_ELSEWHERE = re.compile(r"`[^`]*`(?: or `[^`]*`)* \(on the command line: ([^()]*)\)")


def in_options(text: str, args: argparse.Namespace) -> str:
    """`text` with `name=value` as `--name value`, and `name expects` so, where `name` is an option of the command or of `export`.

    What stands in backticks, and a call in Python such as `TrainingSettings(num_classes=6)`, stays as it is. A text may give both:
    "`custom_objects={'Name': Name}` (on the command line: --custom module:Name)".

    Args:
        text: of an error.
        args: of the command line.

    Example:
        >>> in_options('Budget(memory="90B", compute=7) or head=None', argparse.Namespace(memory=None, compute=0.15, head="auto"))
        '--memory 90B --compute 7 or head=None'
    """
    known = {**{name: f"--{name.replace('_', '-')}" for name in vars(args) if name not in _NOT_OPTIONS}, **_OF_EXPORT}
    parts = _VERBATIM.split(_ELSEWHERE.sub(r"\1", text))  # every second one is verbatim
    return "".join((_as_options if index % 2 else _translated)(part, known) for index, part in enumerate(parts))


def _as_options(code: str, known: Mapping[str, str]) -> str:
    """`Budget(...)` or `TrainingSettings(...)` as options, where each of its arguments is one; any other code as it stands."""
    call = _SETTINGS.fullmatch(code)
    given = [argument for argument in call[1].split(", ") if not argument.endswith("=None")] if call else []
    found = [_PARAMETER.sub(lambda each: _option(each, known), argument) for argument in given]
    return " ".join(found) if found and all(option.startswith("--") for option in found) else code


def _translated(text: str, known: Mapping[str, str]) -> str:
    text = _EXPECTS.sub(lambda found: known.get(found[1], found[1]), text)
    return _PARAMETER.sub(lambda found: _option(found, known), text)


def _option(found: re.Match, known: Mapping[str, str]) -> str:
    """One parameter as an option; as it stands where no option means it. None is what an option that is left out means."""
    name, value = found[1], found[2].strip("'\"")
    if name not in known or value == "None":
        return found[0]
    if value == "...":
        return known[name]
    if value in ("True", "False"):
        return known[name] if value == "True" else known[name].replace("--", "--no-", 1)
    return f"{known[name]} {value}"
