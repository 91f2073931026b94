"""`keras-tinytrain device`: teach a board that runs a bundle's sketch, over its serial port."""

import argparse

from keras_tinytrain._text import duration
from keras_tinytrain.cli.options import not_negative, value_arguments
from keras_tinytrain.fewshot.unknown import UNKNOWN

SUMMARY = "teach a board that runs a bundle's sketch, over its serial port"
EXAMPLE = "device --port /dev/ttyACM0 teach --samples task.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `keras-tinytrain device`."""
    parser.add_argument(
        "action",
        choices=_CHOICES,
        help="teach and predict take --samples, or a motion that the board records; solve: learn without training, by the "
        "closed-form head of a bundle exported with --head ridge; forget: forget the class --label and its samples, and solve for "
        "the others; samples: list those that the board keeps; remove: take back the one at --place; save: write what runs now to "
        "flash; download and upload: the saved delta, from or to the file --delta; "
        "undo: take back the last save; revert: forget what was learned until the next power cycle, or for good if you save; "
        "reset: forget the samples too; factory: forget samples, learning and all that was saved, for good",
    )
    parser.add_argument("--port", required=True, help="such as /dev/ttyACM0, COM3, or a URL of pyserial")
    text = "class to forget; or of the motion that `teach` records, on a board with a sensor: its number, or with --bundle its name"
    parser.add_argument("--label", help=text)
    parser.add_argument("--place", type=not_negative, help="remove: of the sample, as `samples` lists it")
    parser.add_argument("--delta", metavar="FILE", help="download and upload: the file of the delta")
    parser.add_argument("--samples", help="labelled samples: an .npz with x and y, or a folder of class folders")
    parser.add_argument(
        "--unknown",
        action="store_true",
        help="teach: the samples are of no class, whatever their labels (bundles exported with --reject-unknown)",
    )
    parser.add_argument("--bundle", help="the bundle that is on the board: it knows the names of the classes")
    value_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`keras-tinytrain device`: one command to a board. Returns 0.

    Raises:
        ValueError: samples are missing, or not what the board wants.
        ImportError, OSError, RuntimeError: as `Device` does.
    """
    if args.samples and args.action not in ("teach", "predict"):
        raise ValueError(f"{args.action} takes no --samples.")
    for option, actions in _OPTIONS.items():
        if getattr(args, option) not in (None, False) and args.action not in actions:
            raise ValueError(f"{args.action} takes no --{option}.")
    needed = {"remove": "place", "download": "delta", "upload": "delta"}.get(args.action)
    if needed and getattr(args, needed) is None:
        raise ValueError(f"{args.action} needs --{needed}.")
    from keras_tinytrain.export.bundle_folder import Bundle
    from keras_tinytrain.run.serial_port import Device

    bundle = args.bundle and Bundle.load(args.bundle)
    with Device(args.port) as board:
        if args.samples is not None:
            _send_samples(board, args, bundle)
        else:
            _ACTIONS.get(args.action, _obey)(board, args, bundle)
    return 0


def _status(board, args, bundle):
    status = board.status()
    print("\n".join(f"{name:12} {value}" for name, value in {**status, "plan": _in_words(status["plan"])}.items()))


def _train(board, args, bundle):
    from rich.progress import Progress

    with Progress() as progress:
        bar = progress.add_task("training", total=None)
        losses = board.train(
            lambda iteration, loss: progress.update(bar, description=f"iteration {iteration}, loss {loss:.4f}")
        )
    change = f" in {duration(board.train_seconds)}, loss {losses[0]:.4f} to {losses[-1]:.4f}" if losses else ""
    print(f"{len(losses)} iterations{change}")
    print(f"Trained channels: {_in_words(board.status()['plan'])}")


def _solve(board, args, bundle):
    right = board.solve()
    print(f"Solved. Of its samples, {right:.1%} are right by the solution without them.")


def _forget(board, args, bundle):
    if args.label is None:
        raise ValueError("forget needs --label: the class that the board is to forget.")
    label = _number(args.label, bundle)
    right = board.remove_class(label)
    print(
        f"Forgot class {_class_name(label, bundle)}. Of the other samples, {right:.1%} are right by the solution without them."
    )


def _list_samples(board, args, bundle):
    samples, unknown = board.samples(), board.status()["classes"]
    for sample in samples:
        print(f"{sample.place:5} {_class_name(UNKNOWN if sample.label == unknown else sample.label, bundle)}")
    print(f"{len(samples)} samples")


def _remove(board, args, bundle):
    print(f"{board.remove_sample(args.place)} samples. Train or solve anew to learn without it.")


def _download(board, args, bundle):
    delta = board.saved_delta()
    delta.save(args.delta)
    print(f"{args.delta}: {delta}")


def _upload(board, args, bundle):
    from keras_tinytrain.delta import Delta

    board.load_delta(Delta.load(args.delta))
    print(f"{args.delta} runs, and is saved in the board's flash. Trained channels: {_in_words(board.status()['plan'])}.")


def _obey(board, args, bundle):
    """An action without an answer: save, undo, revert, reset or factory."""
    getattr(board, args.action)()
    status = board.status()
    done = "save_exported" if args.action == "save" and status.get("runs") == "exported" else args.action
    print(_DONE[done].format(plan=_in_words(status["plan"]), samples=status["samples"], network=status["network"]))


def _record(board, args, bundle):
    """A sample that the board makes itself."""
    if not board.status()["records"]:
        raise ValueError(f"{args.action} needs --samples: this board records none itself.")
    if args.action == "predict":
        print(_class_name(board.predict_recorded(), bundle))
    elif args.unknown:
        print(f"{board.teach_recorded(board.status()['classes'])} samples")
    elif args.label is None:
        raise ValueError("teach needs --label: the class of the motion that the board is about to record.")
    else:
        number = _number(args.label, bundle)
        print(f"{board.teach_recorded(number)} samples")


def _number(label, bundle):
    """The class that --label names. Raises ValueError where it is neither a number nor a class of the bundle."""
    names = bundle.class_names if bundle else ()
    if label in names:
        return names.index(label)
    if not label.isdecimal():
        known = f"one of {', '.join(names)}" if names else "and, for a name, --bundle with a bundle that has names"
        raise ValueError(f"--label expects the number of a class, {known}. Received: {label}")
    return int(label)


def _send_samples(board, args, bundle):
    import numpy as np

    x, y, _ = _samples(board.status(), args, bundle)
    if args.action == "teach":
        print(f"{board.teach_unknown(x) if args.unknown else board.teach(x, y)} samples")
        return
    labels = board.predict(x)
    print(" ".join(_class_name(label, bundle) for label in labels))
    print(f"accuracy {np.mean(labels == y):.3f}")


def _samples(status, args, bundle):
    """For the board's network: by the bundle where it was named, else as the board says."""
    from keras_tinytrain.cli.samples import command_samples, remark_on_range, samples_of_bundle

    if bundle and not args.unknown:
        return samples_of_bundle(args, args.samples, bundle)
    shape, values = (status["height"], status["width"], status["channels"]), bundle.sample_values if bundle else None
    num_classes = None if args.unknown else status["classes"]
    samples = command_samples(args, args.samples, shape, values=values, num_classes=num_classes)
    remark_on_range(samples.x, status, args.samples)
    return samples


def _class_name(label, bundle):
    if label == UNKNOWN:
        return "unknown"
    return bundle.class_name(label) if bundle else str(label)


def _in_words(plan):
    return ", ".join(f"{layer} {num_channels}" for layer, num_channels in plan.items()) or "chosen by the board when it trains"


_ACTIONS = {
    "status": _status,
    "teach": _record,
    "train": _train,
    "solve": _solve,
    "forget": _forget,
    "predict": _record,
    "samples": _list_samples,
    "remove": _remove,
    "download": _download,
    "upload": _upload,
}
_CHOICES = (*_ACTIONS, "save", "undo", "revert", "reset", "factory")
_OPTIONS = {"label": ("teach", "forget"), "unknown": ("teach",), "place": ("remove",), "delta": ("download", "upload")}
_DONE = {
    "save": "Saved in the board's flash: what {network} learned. Trained channels: {plan}.",
    "revert": "{network} answers as it was exported; its {samples} samples stay.",
    "reset": "{network} answers as it was exported, and has {samples} samples. What was saved in flash stays.",
    "save_exported": "Saved in the board's flash: {network} answers as it was exported, after a power cycle too.",
    "undo": "{network} answers as it was saved before, after a power cycle too. Trained channels: {plan}.",
    "factory": "{network} answers as it was exported, after a power cycle too. All that was saved in flash is gone.",
}
