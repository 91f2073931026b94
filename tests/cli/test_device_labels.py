"""`device teach --label` takes a class by its number or, with a bundle, by its name."""

from types import SimpleNamespace

import pytest

from keras_tinytrain.cli import device

BUNDLE = SimpleNamespace(class_names=("wave", "knock"))


@pytest.mark.parametrize(("label", "bundle", "number"), [("1", None, 1), ("knock", BUNDLE, 1), ("0", BUNDLE, 0)])
def test_label_is_a_number_or_a_name_of_the_bundle(label, bundle, number, capsys):
    taught = []
    board = SimpleNamespace(status=lambda: {"records": 1}, teach_recorded=lambda label: taught.append(label) or len(taught))
    device._record(board, SimpleNamespace(action="teach", unknown=False, label=label), bundle)
    assert taught == [number] and capsys.readouterr().out == "1 samples\n"


@pytest.mark.parametrize(("bundle", "known"), [(BUNDLE, "one of wave, knock"), (None, "--bundle with a bundle that has names")])
def test_label_that_is_no_class_says_which_are(bundle, known):
    board = SimpleNamespace(status=lambda: {"records": 1})
    with pytest.raises(ValueError, match=f"--label expects the number of a class, .*{known}. Received: clap"):
        device._record(board, SimpleNamespace(action="teach", unknown=False, label="clap"), bundle)
