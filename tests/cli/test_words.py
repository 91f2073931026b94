"""Errors of the command line name its options; what is no option stays as it is."""

import argparse

import pytest

from keras_tinytrain.cli.words import in_options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("is there already: pass overwrite=True to replace it.", "is there already: pass --overwrite to replace it."),
        ("export it again with weights_in_ram='whole'.", "export it again with --weights-in-ram whole."),
        ('Use fewer views, or features="ram".', "Use fewer views, or --features ram."),
        ("last_blocks expects a number of blocks.", "--last-blocks expects a number of blocks."),
        (
            "sketch='camera' is for Arduino, so project expects 'arduino'.",
            "--sketch camera is for Arduino, so --for expects 'arduino'.",
        ),
        ('is Budget(memory="443936B", compute=9031472).', "is --memory 443936B --compute 9031472."),
        ("is Budget(compute=0.5).", "is --compute 0.5."),
        ("Pass split=False.", "Pass --no-split."),
        ("--head expects a name, --compute=2 is none", "--head expects a name, --compute=2 is none"),
        ("With head=None it need not be trained whole.", "With head=None it need not be trained whole."),
        ("build it with unroll=True, or model expects more", "build it with unroll=True, or model expects more"),
        ("`--trained-weights int8` (28,000 B)", "`--trained-weights int8` (28,000 B)"),
        (
            "Give features='ram', DeviceAccounting(optimizer='adam', views=(1,), features='ram') or `features='ram'`",
            "Give --features ram, DeviceAccounting(optimizer='adam', views=(1,), features='ram') or `features='ram'`",
        ),
        ("Budget(compute=...) expects a fraction.", "--compute expects a fraction."),
        (
            "Received: TrainingSettings(iterations=5) and Budget(memory=None, compute=2)",
            "Received: --iterations 5 and --compute 2",
        ),
        (
            "Say TrainingSettings(num_classes=6, iterations=5) or Budget(time=3)",
            "Say TrainingSettings(num_classes=6, iterations=5) or Budget(time=3)",
        ),
        ("use `one()` or `two(a)` (on the command line: --head auto), or `one()`", "use --head auto, or `one()`"),
        ("groups=1 and Input(shape=(8, 8, 1))", "groups=1 and Input(shape=(8, 8, 1))"),
    ],
)
def test_parameters_of_python_become_options(text, expected):
    args = argparse.Namespace(model="m", memory=None, compute=0.15, head="auto", last_blocks=6, iterations=None, run=None)
    assert in_options(text, args) == expected
