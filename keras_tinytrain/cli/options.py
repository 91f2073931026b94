"""Options that several commands of `keras-tinytrain` have in common. Loads no TensorFlow."""

import argparse
import importlib
import os
import sys
import typing

from keras_tinytrain.backbones.names import BACKBONES
from keras_tinytrain.choose.arena import KERNELS
from keras_tinytrain.choose.training_memory import OPTIMIZERS, WEIGHTS
from keras_tinytrain.device_settings import DeviceSettings
from keras_tinytrain.export.boards import BOARDS
from keras_tinytrain.export.settings import FLAGS
from keras_tinytrain.views import checked_views

if typing.TYPE_CHECKING:
    import keras
    from rich.status import Status


def model_arguments(parser: argparse.ArgumentParser) -> None:
    """A model, and how stored samples become its inputs."""
    text = "a Keras model, of Keras 2 or 3: a .keras or .h5 file, or a SavedModel; a backbone (images to embeddings) or a classifier"
    parser.add_argument("model", help=text)
    text = "a class or function of yours that the model holds, as module:Name. Give the option once for each (none)"
    parser.add_argument("--custom", action="append", default=[], metavar="MODULE:NAME", help=text)
    text = "take a classifier up to the input of its head, as a backbone: for samples of other classes than it has"
    parser.add_argument("--without-head", action="store_true", help=text)
    value_arguments(parser)


def value_arguments(parser: argparse.ArgumentParser) -> None:
    """How stored samples become inputs."""
    text = (
        "multiply the samples' values by this (1). Pixels, that is uint8 arrays and pictures, are 0..1 before that, other "
        "numbers as they are stored. A model that takes pixels of 0..255 wants 255, one that takes -1..1 wants 2 with --offset -1"
    )
    parser.add_argument("--scale", type=float, help=text)
    parser.add_argument("--offset", type=float, help="then add this (0)")


def board_argument(parser: argparse.ArgumentParser, text: str) -> None:
    """The board that the model is for."""
    known = f"{', '.join(BOARDS)}, or a .toml file that describes one (%(default)s)"
    parser.add_argument("--board", default="nano33ble", help=f"{text}: {known}")


def candidate_arguments(parser: argparse._ActionsContainer) -> None:
    """Among which layers a choice is made: of the last blocks, of some kinds, or by name."""
    last_blocks_argument(parser)
    text = (
        "of their layers: auto (convolutions and dense layers; among inverted bottlenecks 1x1 convolutions only), pointwise (1x1 "
        "convolutions and dense layers) or all (depthwise ones too) (%(default)s)"
    )
    parser.add_argument("--kinds", default="auto", help=text)
    parser.add_argument("--layers", nargs="+", metavar="NAME", help="choose among these layers instead, whatever their kind")


def settings_arguments(parser: argparse.ArgumentParser, board_text: str, *, unsaid: str | None = None) -> None:
    """A device, as `DeviceSettings` describes it: the same options for `plan`, which chooses for it, and for `export`.

    Args:
        board_text: what the board is to the command.
        unsaid: what the help says of an option that is left out; None: the value in `DeviceSettings`. The option is then None.
    """
    known = f"{', '.join(BOARDS)}, or a .toml file that describes one"
    parser.add_argument("--board", help=f"{board_text}: {known} ({unsaid or DeviceSettings.board})")
    kernels_argument(parser, unsaid or "as the board has them")
    parser.add_argument("--max-samples", type=positive, help=f"samples that the device keeps ({unsaid or 'all of --samples'})")
    device_arguments(parser, unsaid=unsaid)
    view_argument(parser)
    text = (
        "with --head ridge: answer 'unknown' to samples of no class. This fraction of them, such as 0.05, may still get a class. With "
        f"one class or two it is the fraction of known samples that may be refused ({unsaid or 'answer a class always'})"
    )
    parser.add_argument("--reject-unknown", type=float, metavar="RATE", help=text)
    text = (
        "with a closed-form head: layers whose outputs it reads beside the embedding; fewer take less memory "
        f"({unsaid or 'of the last blocks, as many as fit'})"
    )
    parser.add_argument("--maps", nargs="+", metavar="NAME", help=text)
    parser.set_defaults(features=None, optimizer=None, trained_weights=None, view=None)


def kernels_argument(parser: argparse._ActionsContainer, unsaid: str) -> None:
    """Whose memory is promised; `unsaid` is what the help says where the option is left out."""
    text = f"kernels of the TensorFlow Lite Micro that you link: their memory is counted ({unsaid})"
    parser.add_argument("--kernels", choices=tuple(KERNELS), help=text)


def time_argument(parser: argparse.ArgumentParser) -> None:
    """How long a board may learn: for `plan` and `export` alike."""
    text = (
        "in which the board shall learn a task, such as 10s or 2min: as much training as fits, 40, 20, 10 or 5 iterations, else the "
        "closed-form head or the prototypes alone (no limit)"
    )
    parser.add_argument("--time", help=text)


def given_settings(args: argparse.Namespace) -> dict[str, typing.Any]:
    """{field of `DeviceSettings`: value} of the options that were given."""
    values = {field: getattr(args, flag.removeprefix("--").replace("-", "_")) for field, flag in FLAGS.items()}
    if values["views"] is not None:
        values["views"] = checked_views(values["views"])
    return {field: value for field, value in values.items() if value not in (None, "auto")}


def last_blocks_argument(parser: argparse._ActionsContainer) -> None:
    """How much of the model is looked at; by its name in version 0.1 too."""
    text = "choose among the layers of the last so many blocks (%(default)s)"
    parser.add_argument("--last-blocks", type=_num_blocks, default=6, metavar="BLOCKS", help=text)
    hidden = argparse.SUPPRESS
    parser.add_argument("--inspect", type=_num_blocks, dest="last_blocks", action=_OldName, default=hidden, help=hidden)


def device_arguments(
    parser: argparse.ArgumentParser,
    features: str = "ram",
    optimizer: str = "adam",
    weights: str = "float_masters",
    *,
    unsaid: str | None = None,
) -> None:
    """How the device trains, and what it keeps in which memory; `unsaid` as for `settings_arguments`."""
    text = f"memory in which the device keeps the frozen part's outputs for the samples ({unsaid or features})"
    parser.add_argument("--features", choices=("ram", "flash"), default=features, help=text)
    state = ", ".join(f"{name} {num_floats}" for name, (num_floats, _) in OPTIMIZERS.items())
    text = f"it keeps so many floats in RAM for each trained weight: {state} ({unsaid or optimizer})"
    parser.add_argument("--optimizer", choices=tuple(OPTIMIZERS), default=optimizer, help=text)
    text = f"a float beside the int8 of each trained weight, or int8 alone with stochastic rounding ({unsaid or weights})"
    parser.add_argument("--trained-weights", choices=WEIGHTS, default=weights, help=text)


def view_argument(parser: argparse.ArgumentParser) -> None:
    """Views that the device keeps: for `plan` and `export` alike."""
    text = (
        "a copy that the device keeps of each sample, shifted by so many pixels down and to the right (negative: up, left); "
        "a third number 1 mirrors it first. Give the option once for each copy (none)"
    )
    parser.add_argument("--view", type=int, nargs="+", action="append", default=[], metavar="PIXELS", help=text)


def head_argument(parser: argparse.ArgumentParser) -> None:
    """What the model's output stands for: for `plan` and `export` alike."""
    text = (
        "what the model's output is: probabilities of the classes (softmax), one unit for two classes (sigmoid), one value for each "
        "class (logits), or an embedding (prototypes); found from the model, where as many values as classes without an activation "
        "are logits (%(default)s); ridge: an embedding, answered by a closed-form head that is solved and not trained"
    )
    parser.add_argument(
        "--head", choices=("auto", "softmax", "sigmoid", "logits", "prototypes", "ridge"), default="auto", help=text
    )


def backbone_argument(parser: argparse.ArgumentParser) -> None:
    """A backbone that the package can build."""
    parser.add_argument("--backbone", default="mcunet", help=f"{', '.join(BACKBONES)} (%(default)s)")


def json_argument(parser: argparse.ArgumentParser, text: str) -> None:
    """Figures for a program in place of text for a person."""
    parser.add_argument("--json", action="store_true", help=f"print {text}")


def report_argument(parser: argparse.ArgumentParser) -> None:
    """A page to look at."""
    text = "write a page to look at into this .html file, and its values into a .json file beside it; needs jinja2"
    parser.add_argument("--report", metavar="FILE", help=text)


def positive(text: str) -> int:
    """A whole number from 1, as the type of an option."""
    return _whole(text, 1)


def not_negative(text: str) -> int:
    """A whole number from 0, as the type of an option."""
    return _whole(text, 0)


def _whole(text, least):
    number = int(text)
    if not least <= number < 2**31:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least}, below 2^31; received {text}")
    return number


def _num_blocks(text):
    try:
        return positive(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected a number of blocks, received {text}. To choose among named layers, use --layers {text}"
        ) from error


def load_model(args: argparse.Namespace) -> "keras.Model":
    """The model of a command, with one input and one output; see `model.load_model`.

    Raises:
        ValueError: it cannot be loaded, is not Functional or Sequential, has several inputs or outputs, or has no head to leave out.
    """
    from keras_tinytrain.model import load_model
    from keras_tinytrain.model.ending import backbone_of
    from keras_tinytrain.model.graph import check_ends

    model = load_model(args.model, custom_objects=dict(own_object(name) for name in args.custom))
    check_ends(model)
    model = backbone_of(model) if args.without_head else model
    if model.output_shape == model.input_shape:
        remark(
            f"'{model.name}' gives an output of its input's shape, {model.output_shape[1:]}, as an autoencoder does. It is taken as a "
            "backbone, whose output is compared with the mean output of each class; the encoder alone may do better."
        )
    return model


def own_object(text):
    """(name, class or function) of "module:Name"; a module in the folder of the command is found too."""
    module, _, name = text.partition(":")
    sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"--custom expects module:Name, such as my_layers:Scale. Received {text}: {error}") from error
    finally:
        sys.path.pop()
    return name, found


def spinner(text: str) -> "Status":
    """Shows `text` on the terminal while its block runs."""
    from rich.console import Console

    return Console(stderr=True).status(text)


def remark(text: str) -> None:
    """One line for the user, apart from the output."""
    print(f"keras-tinytrain: {text}", file=sys.stderr)


class _OldName(argparse.Action):
    """An option's name in version 0.1: it works, and says the new one."""

    def __call__(self, parser, namespace, values, option_string=None):
        remark(f"{option_string} is called --{self.dest.replace('_', '-')} now; the old name goes with version 0.3.")
        setattr(namespace, self.dest, values)
