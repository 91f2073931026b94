"""`keras-tinytrain check`: verify that a bundle is as it was exported."""

import argparse

SUMMARY = "verify that a bundle is as it was exported"
EXAMPLE = "check bundle/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `keras-tinytrain check`."""
    parser.add_argument("bundle", help="folder that `keras-tinytrain export` wrote")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0; a file that was altered raises ValueError."""
    from keras_tinytrain._text import kilobytes
    from keras_tinytrain.export import Bundle

    bundle = Bundle.load(args.bundle)
    promised, board = bundle.promised_bytes, bundle.manifest["board"]
    sizes = " and ".join(
        f"{kilobytes(promised[memory]['total'])} of {kilobytes(board[f'{memory}_bytes'])} KB of {name}"
        for memory, name in (("sram", "SRAM"), ("flash", "flash"))
    )
    print(f"{bundle.path}: {len(bundle.manifest['files'])} files as exported. It takes {sizes} on board {board['name']}.")
    return 0
