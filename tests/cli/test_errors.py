"""What ends a command: one sentence and a code for what a user can mend, a traceback for a fault of this package."""

import logging
import subprocess
import sys

import pytest

from keras_tinytrain import cli
from keras_tinytrain.cli import check, main


def raising(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (OSError(28, "No space left on device", "plan.json"), 2, "[Errno 28] No space left on device: 'plan.json'"),
        (ValueError("x.npz is damaged.\n\nA library's own traceback."), 2, "x.npz is damaged."),
        (ValueError(), 2, "ValueError"),
        (ImportError("install it"), 2, "install it"),
        (RuntimeError("the board does not answer"), 2, "the board does not answer"),
        (MemoryError("Unable to allocate 7 TiB"), 2, "there is not enough memory on this computer: Unable to allocate 7 TiB"),
        (EOFError("EOF when reading a line"), 2, "the input ended before it was expected to: EOF when reading a line"),
        (KeyboardInterrupt(), 130, "interrupted."),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(monkeypatch, capsys, error, code, text):
    monkeypatch.setattr(check, "run", raising(error))
    assert main(["check", "bundle"]) == code
    assert capsys.readouterr().err == f"keras-tinytrain: {text}\n"


def test_warnings_of_the_package_are_lines_like_the_others(monkeypatch, capsys):
    logger = logging.getLogger("keras_tinytrain.export.settled")
    monkeypatch.setattr(check, "run", lambda args: logger.warning("export with %s", "overwrite=True") or 0)
    assert main(["check", "bundle"]) == 0
    assert capsys.readouterr().err == "keras-tinytrain: export with --overwrite\n"
    assert not logging.getLogger("keras_tinytrain").handlers


@pytest.mark.parametrize("error", [TypeError("x"), AttributeError("x"), KeyError("x"), IndexError("x"), AssertionError("x")])
def test_a_fault_of_the_package_keeps_its_traceback(monkeypatch, error):
    monkeypatch.setattr(check, "run", raising(error))
    with pytest.raises(type(error)):
        main(["check", "bundle"])


def test_a_reader_that_goes_away_is_no_traceback(tmp_path):
    code = "from keras_tinytrain.cli import check, main; check.run = lambda args: print('line\\n' * 10**5) or 0; exit(main(['check', 'b']))"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 2
    assert errors == "keras-tinytrain: the output was closed before all of it was written: [Errno 32] Broken pipe\n"


@pytest.mark.parametrize(
    "option",
    [
        ["--epochs", "-1"],
        ["--episodes", "-5"],
        ["--size", "0"],
        ["--seed", "-1"],
        ["--epochs", "1000000000000"],
        ["--size", "nan"],
    ],
)
def test_absurd_numbers_are_refused_by_the_option(capsys, option):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["metatrain", "--out", "w.npz", *option])
    assert stopped.value.code == 2 and option[0] in capsys.readouterr().err
