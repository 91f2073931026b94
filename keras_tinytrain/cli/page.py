"""`keras-tinytrain page`: write the page from which a bundle's board is taught in a browser."""

import argparse
import pathlib

SUMMARY = "write the page from which a board is taught in a browser"
EXAMPLE = "page build/digits --out teach.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `keras-tinytrain page`."""
    parser.add_argument("bundle", help="folder that `keras-tinytrain export` wrote")
    parser.add_argument(
        "--out", default="teach.html", metavar="FILE", help="the page, one file that needs no other (%(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0. Raises ValueError where there is no such bundle, or --out is no .html file or one of the bundle's; ImportError without jinja2."""
    from keras_tinytrain._files import write_file
    from keras_tinytrain.export.bundle_folder import Bundle
    from keras_tinytrain.export.page.teach_page import teach_page

    out = pathlib.Path(args.out)
    if out.suffix != ".html":
        raise ValueError(f"--out expects a file that ends in .html, such as teach.html. Received: {out}")
    bundle = Bundle.load(args.bundle)
    if out.resolve() in [(bundle.path / name).resolve() for name in bundle.manifest["files"]]:
        raise ValueError(
            f"--out expects a place outside the bundle, which has a checksum of its own {out.name}. Received: {out}"
        )
    write_file(out, teach_page(bundle.manifest))
    print(f"{out}: open it in Chrome or Edge, and connect the board.")
    return 0
