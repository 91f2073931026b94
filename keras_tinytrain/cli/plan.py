"""`keras-tinytrain plan`: choose layers and channels for a model and labelled samples."""

import argparse

from keras_tinytrain._figure import new_figure
from keras_tinytrain._quiet import load_tensorflow
from keras_tinytrain.cli import options

SUMMARY = "choose layers and channels for a model and labelled samples"
EXAMPLE = "plan model.keras --samples task.npz --board nano33ble --out plan.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `keras-tinytrain plan`."""
    options.model_arguments(parser)
    options.head_argument(parser)
    parser.add_argument("--samples", required=True, help="labelled samples: an .npz with x and y, or a folder of class folders")
    options.board_argument(parser, "board whose memory is the budget")
    parser.add_argument("--memory", help="memory budget, such as 100KB (the board's)")
    parser.add_argument("--compute", type=float, default=0.15, help="share of a full backward pass, or MACs (%(default)s)")
    options.candidate_arguments(parser)
    parser.add_argument("--strategy", default="fisher", help="how to choose (%(default)s); 'l2', 'random', 'fisher P/W', ...")
    parser.add_argument("--seed", type=int, default=0, help="of strategies that draw (%(default)s)")
    options.device_arguments(parser)
    options.view_argument(parser)
    parser.add_argument("--explain", action="store_true", help="say why, and what more memory would add")
    parser.add_argument("--figure", help="draw scores, channels and memory into this file, .png or .svg")
    parser.add_argument("--out", help="write the plan to this JSON file")
    options.json_argument(parser, "the plan as JSON instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0."""
    if args.figure:
        new_figure()  # says what to install before anything takes time
    load_tensorflow()
    from keras_tinytrain.choose.sram import DeviceAccounting
    from keras_tinytrain.cli.samples import samples_of_model
    from keras_tinytrain.export import board
    from keras_tinytrain.fewshot.task_loss import choose_for_task
    from keras_tinytrain.plan import Budget
    from keras_tinytrain.views import checked_views

    budget = Budget(args.memory or board(args.board).available_sram_bytes, args.compute)
    model = options.load_model(args.model)
    x, y = samples_of_model(args, args.samples, model)
    num_views = len(checked_views(args.view))
    accounting = DeviceAccounting(args.optimizer, args.trained_weights, features=args.features, num_views=num_views)
    choice = {name: getattr(args, name) for name in ("strategy", "seed", "last_blocks", "kinds", "layers", "head")}
    with options.spinner("scoring layers and channels"):
        plan = choose_for_task(model, x, y, budget, accounting=accounting, **choice)
    if args.figure:
        from keras_tinytrain.cli.plan_figure import write_figure

        write_figure(plan, args.figure)
    if args.out:
        plan.save(args.out)
    _print(plan, args)
    return 0


def _print(plan, args):
    from rich import print as rich_print

    from keras_tinytrain.cli.tables import plan_table

    if args.json or plan.explanation is None:
        print(plan.to_json())
    elif args.explain:
        print(plan.explain())
    else:
        rich_print(plan_table(plan))
        print(plan.explanation.candidates)
