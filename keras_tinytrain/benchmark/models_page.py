"""The page of models: a table in Markdown, and the sentences of refusal."""

from collections.abc import Mapping

STEPS = ("fit", "plan", "export", "host", "emulated board")
_HEAD = """# Models that were run

Written by `keras-tinytrain benchmark models`, from what it ran; not by hand. Each network went through

- **fit**: `TinyTrainCallback(Budget())`, two epochs; where the error names a budget that suffices, with that; no weight
  outside the plan changes;
- **plan**: `keras-tinytrain plan --board nano33ble`; where the error names options that fit, with those;
- **export**: `keras-tinytrain export` of that plan, and `check`; bytes of RAM and flash are promised;
- **host**: the bundle's C++ on this machine learns; it uses the promised bytes;
- **emulated board**: `keras-tinytrain emulate`, a Cortex-M4F with the board's memory; it learns the same delta, bit for bit.

Networks have their initial weights (those of files their own), and samples are invented: the table says what runs, not what is learned. A step after one
that did not work is not run ("-").
"""


def page(rows: Mapping[str, Mapping]) -> str:
    """Markdown of the rows of `models.run_network` by name."""
    lines = [_HEAD, _line(["network", "input", *STEPS]), _line(["---"] * (2 + len(STEPS)))]
    lines += [_line([f"`{name}`", row["input"], *_cells(row["steps"])]) for name, row in rows.items()]
    lines += ["", "## The networks", ""]
    lines += [f"- `{name}`: {_plain(row['about'])}." for name, row in rows.items()]
    return "\n".join([*lines, *_told(rows, "refused", "Refusals"), *_told(rows, "fault", "Faults")]) + "\n"


def _cells(steps):
    for step in STEPS:
        outcome = steps.get(step)
        if outcome is None:
            yield "-"
        else:
            yield _plain(outcome["text"]) if outcome["kind"] == "works" else outcome["kind"]


def _told(rows, kind, title):
    """A section with the sentences of the outcomes of a kind; [] where there are none."""
    told = [
        f"- `{name}`, {step}: {_plain(outcome['text'])}"
        for name, row in rows.items()
        for step, outcome in row["steps"].items()
        if outcome["kind"] == kind
    ]
    return ["", f"## {title}", "", *told] if told else []


def _plain(text):
    """Text that fits into one line and one cell."""
    return " ".join(text.replace("|", "/").split())


def _line(cells):
    return f"| {' | '.join(cells)} |"
