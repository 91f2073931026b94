"""Write docs/reliability.json and .md: the tests of trust, with as many trials as asked for, and what each of them tried.

    python tests/trust/reliability.py --count 5000 --rounds 500 --out docs/reliability.json

What reads a file runs with an extension that is built with the address and the undefined behaviour sanitizer. Every figure comes
from a test that passed: where one fails, nothing is written, and the exit code is 1.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
SANITIZERS = "-fsanitize=address -fsanitize=undefined -fsanitize-undefined-trap-on-error -g -O1"
READERS = ("trust/test_readers.py", "trust/test_bundles.py", "runtime/test_deltas.py", "runtime/test_slots.py")
OTHERS = ("trust/test_writers.py", "trust/test_bundle_folder.py", "trust/test_ports.py", "trust/test_field.py")
OTHERS += ("trust/test_ends.py", "trust/test_long_runs.py", "runtime/test_fuzz.py", "backbones/test_safe_pickle.py")
HEAD = """# What was tried to lose, run or break something

Written by `python tests/trust/reliability.py {options}`, from tests that passed; not by hand. [SECURITY.md](../SECURITY.md) says what is
promised. Damage: cut short, bits flipped, bytes overwritten, removed, inserted, doubled; words and values replaced. Checksums are
right again where it says "repaired", and in the archives of .npz files. All that reads runs under the address and the undefined
behaviour sanitizer. Deltas "on the device" are those of prototypes and those of a closed-form head, as many of each. Serial commands are
those of the command line and those of the page teach.html.

- "refused": ended in an error of one sentence that names the file or the port. The rest was read as the values that it then
  holds, or left the old state or the new.
- "wrong": anything else. Something lost, run, read outside or half done; a crash, a traceback, an error of another kind.

"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5000, help="damaged copies of each kind of file")
    parser.add_argument("--rounds", type=int, default=500, help="rounds of each long run")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--only", nargs="+", default=READERS + OTHERS, help="test files whose rows of --out are renewed")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "reliability.json")
    args = parser.parse_args()
    asked = {"TINYTRAIN_TRIALS": args.count, "TINYTRAIN_ROUNDS": args.rounds, "TINYTRAIN_SEED": args.seed}
    environment = os.environ | {name: str(value) for name, value in asked.items()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        readers, others = ([name for name in names if name in args.only] for names in (READERS, OTHERS))
        figures = run(readers, folder, environment | sanitized(folder)) if readers else []
        figures += run(others, folder, environment) if others else []
    report = {"count": args.count, "rounds": args.rounds, "seed": args.seed, **summed(figures)}
    if set(args.only) != {*READERS, *OTHERS}:
        report = renewed(json.loads(args.out.read_text()), report)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(page(report))


def sanitized(folder):
    """Build the extension with sanitizers. Returns the environment in which the tests take it."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", folder, "--build-temp", folder / "objects"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"CFLAGS": SANITIZERS}, check=True)
    names = ("libasan.so", "libstdc++.so")  # whose exceptions the former watches, and must find there before the first library
    libraries = [subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip() for name in names]
    return {
        "TINYTRAIN_RUNTIME": str(next(folder.glob("keras_tinytrain/_runtime*"))),
        "LD_PRELOAD": " ".join(libraries),
        # Python and TensorFlow leave much at their end. A report goes to a file: pytest keeps what is written to the terminal.
        "ASAN_OPTIONS": f"detect_leaks=0:allocator_may_return_null=1:log_path={folder / 'sanitizer'}",
    }


def run(names, folder, environment):
    """The figures that these tests record: (name, value). Ends the program where a test fails."""
    report = folder / "report.xml"
    tests = [str(ROOT / "tests" / name) for name in names]
    options = ["-q", "-o", "junit_family=xunit1", f"--junitxml={report}"]
    done = subprocess.run([sys.executable, "-m", "pytest", *options, *tests], cwd=ROOT, env=environment)
    if done.returncode:
        print(*(each.read_text() for each in folder.glob("sanitizer*")), file=sys.stderr)
        sys.exit(f"pytest ended with {done.returncode}: nothing is written.")
    return [(each.get("name"), each.get("value")) for each in xml.etree.ElementTree.parse(report).iter("property")]


def summed(figures):
    """{"tried": {kind: {"tried": N, "refused": N or None}}, "grew": {what: {"first": N, "last": N, "megabytes": MB}}}"""
    tried, grew = collections.defaultdict(lambda: {"tried": 0, "refused": None}), {}
    for name, value in figures:
        what, *numbers = value.split("|")
        if name == "tried":
            tried[what]["tried"] += int(numbers[0])
            if numbers[1]:
                tried[what]["refused"] = (tried[what]["refused"] or 0) + int(numbers[1])
        if name == "grew":
            grew[what] = {"first": int(numbers[0]), "last": int(numbers[1]), "megabytes": float(numbers[2])}
    return {"tried": dict(sorted(tried.items())), "grew": dict(sorted(grew.items()))}


def renewed(before, report):
    """The report before, with the rows of another of as many trials in the place of its own."""
    asked = ("count", "rounds", "seed")
    if any(before[name] != report[name] for name in asked):
        sys.exit(f"--only renews rows of as many trials: {' '.join(f'--{name} {before[name]}' for name in asked)}.")
    parts = ("tried", "grew")
    return {**before, **{part: dict(sorted({**before[part], **report[part]}.items())) for part in parts}}


def page(report):
    """Markdown."""
    lines = ["| what | tried | refused | wrong |", "|---|---:|---:|---:|"]
    for kind, row in report["tried"].items():
        refused = "" if row["refused"] is None else f"{row['refused']:,}"
        lines.append(f"| {kind} | {row['tried']:,} | {refused} | 0 |")
    lines += ["", "## Memory of long runs", "", "| what | from | to | more resident memory, MB |", "|---|---:|---:|---:|"]
    lines += [
        f"| {what} | {row['first']:,} | {row['last']:,} | {row['megabytes']:.1f} |" for what, row in report["grew"].items()
    ]
    options = "--count {count} --rounds {rounds} --seed {seed}".format_map(report)
    return HEAD.format(options=options) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
