"""`keras-tinytrain check`: verify that a bundle is as it was exported."""

import argparse

from keras_tinytrain._quiet import load_tensorflow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `keras-tinytrain check`."""
    parser.add_argument("bundle", help="folder that `keras-tinytrain export` wrote")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0; what was altered raises."""
    load_tensorflow()
    from keras_tinytrain.export import Bundle

    bundle = Bundle.load(args.bundle)
    num_bytes = bundle.promised_bytes["sram"]["total"]
    print(f"{bundle.path}: {len(bundle.manifest['files'])} files as exported, {num_bytes:,} B of SRAM promised")
    return 0
