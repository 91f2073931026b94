"""`keras-tinytrain device`: teach a board that runs a bundle's sketch, over its serial port."""

import argparse

from keras_tinytrain.cli.options import value_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `keras-tinytrain device`."""
    parser.add_argument(
        "action",
        choices=("status", "teach", "train", "predict", "save", "revert", "reset"),
        help="teach and predict want --samples, or make a motion where the board records it; save: keep in flash "
        "what was learned; revert: forget what was learned; reset: and the samples",
    )
    parser.add_argument("--port", required=True, help="such as /dev/ttyACM0, COM3, or a URL of pyserial")
    parser.add_argument("--label", type=int, help="class that `teach` records, on a board with a sensor")
    parser.add_argument("--samples", help="labelled samples: an .npz with x and y, or a folder of class folders")
    value_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`keras-tinytrain device`: one command to a board. Returns 0.

    Raises:
        ValueError: samples are missing, or not what the board wants.
        ImportError, OSError, RuntimeError: as `Device` does.
    """
    if (args.action not in ("teach", "predict") and args.samples) or (args.action != "teach" and args.label is not None):
        raise ValueError(f"{args.action} takes no {'--samples' if args.label is None else '--label'}.")
    from keras_tinytrain.run.serial_port import Device

    with Device(args.port) as board:
        if args.samples is not None:
            _send_samples(board, args)
        elif args.action in ("teach", "predict"):
            _record(board, args)
        elif args.action == "status":
            status = board.status()
            print("\n".join(f"{name:12} {value}" for name, value in {**status, "plan": _in_words(status["plan"])}.items()))
        elif args.action == "train":
            losses = _train(board)
            print(f"{len(losses)} iterations, loss {losses[0]:.4f} to {losses[-1]:.4f}")
            print(f"Trained channels: {_in_words(board.status()['plan'])}")
        else:
            getattr(board, args.action)()
    return 0


def _record(board, args):
    """A sample that the board makes itself."""
    if not board.status()["records"]:
        raise ValueError(f"{args.action} needs --samples: this board has them from nowhere else.")
    if args.action == "predict":
        print(board.predict_recorded())
    elif args.label is None:
        raise ValueError("teach needs --label, of what the board is about to record.")
    else:
        print(f"{board.teach_recorded(args.label)} samples")


def _send_samples(board, args):
    import numpy as np

    from keras_tinytrain.data.samples import load_samples

    status = board.status()
    shape = status["height"], status["width"], status["channels"]
    x, y = load_samples(args.samples, shape, scale=args.scale, offset=args.offset)
    if args.action == "teach":
        print(f"{board.teach(x, y)} samples")
        return
    labels = board.predict(x)
    print(" ".join(map(str, labels)))
    print(f"accuracy {np.mean(labels == y):.3f}")


def _in_words(plan):
    return ", ".join(f"{layer} {num_channels}" for layer, num_channels in plan.items()) or "chosen by the board when it trains"


def _train(board):
    from rich.progress import Progress

    with Progress() as progress:
        bar = progress.add_task("training", total=None)
        return board.train(lambda iteration, loss: progress.update(bar, description=f"iteration {iteration}, loss {loss:.4f}"))
