"""Options that several commands of `keras-tinytrain` have in common."""

import argparse


def model_arguments(parser: argparse.ArgumentParser) -> None:
    """A model, and how stored samples become its inputs."""
    parser.add_argument("model", help="a .keras file: a backbone (images to embeddings) or a classifier")
    value_arguments(parser)


def value_arguments(parser: argparse.ArgumentParser) -> None:
    """How stored samples become inputs."""
    parser.add_argument("--scale", type=float, default=1.0, help="multiply stored sample values by this (%(default)s)")
    parser.add_argument("--offset", type=float, default=0.0, help="then add this (%(default)s)")


def device_arguments(parser: argparse.ArgumentParser, features="ram", optimizer="adam", weights="float_masters") -> None:
    """How the device trains and what it keeps where: the same for `plan`, which counts it, and `export`, which does it."""
    text = "where the device keeps what the frozen part made of the samples (%(default)s)"
    parser.add_argument("--features", choices=("ram", "flash"), default=features, help=text)
    text = "floats in RAM of each trained weight: sgd none, momentum and adam_per_channel 1, adam 2 (%(default)s)"
    parser.add_argument("--optimizer", choices=("sgd", "momentum", "adam", "adam_per_channel"), default=optimizer, help=text)
    text = "trained weights with a float beside their int8, or int8 alone, rounded by chance (%(default)s)"
    parser.add_argument("--trained-weights", choices=("float_masters", "int8"), default=weights, help=text)


def view_argument(parser: argparse.ArgumentParser) -> None:
    """Views that the device keeps: for `plan` and `export` alike."""
    text = (
        "copy that the device keeps of each sample, shifted by pixels down and to the right (negative: up, left), 1 behind "
        "them: mirrored before; as often as wanted (none)"
    )
    parser.add_argument("--view", type=int, nargs="+", action="append", default=[], metavar="PIXELS", help=text)


def positive(text: str) -> int:
    """A whole number from 1, as the type of an option."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, received {text}")
    return number


def load_model(path: str):
    """The Keras model in a file. Raises ValueError where Keras cannot load it."""
    import keras

    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, OSError, TypeError) as error:
        raise ValueError(f"{path} is not a model that Keras can load: {first_paragraph(error)}") from error


def spinner(text: str):
    """Shows `text` on the terminal while its block runs."""
    from rich.console import Console

    return Console(stderr=True).status(text)


def first_paragraph(error: BaseException) -> str:
    """What a person is told of an error."""
    return str(error).strip().split("\n\n")[0]
