"""`keras-tinytrain plan`: choose layers and channels for a model and labelled samples."""

import argparse
import dataclasses

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
    options.settings_arguments(parser, "board that the plan is for; its memory is the budget; none: for Keras alone")
    parser.add_argument("--memory", help="memory budget, such as 100KB (the board's)")
    parser.add_argument("--compute", type=float, default=0.15, help="share of a full backward pass, or MACs (%(default)s)")
    options.time_argument(parser)
    options.candidate_arguments(parser)
    parser.add_argument("--strategy", default="fisher", help="how to choose (%(default)s); 'l2', 'random', 'fisher P/W', ...")
    parser.add_argument("--seed", type=int, default=0, help="of strategies that draw (%(default)s)")
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
    from keras_tinytrain.choose.planner import choose
    from keras_tinytrain.cli.planned import budget_of, device_of, plan_for, with_time
    from keras_tinytrain.cli.samples import samples_of_model
    from keras_tinytrain.fewshot.task_loss import classifier_and_loss

    budget = budget_of(args)
    model = options.load_model(args)
    samples = samples_of_model(args, args.samples, model)
    device = device_of(args, model, samples)
    choice = {name: getattr(args, name) for name in ("strategy", "seed", "last_blocks", "kinds", "layers")}
    with options.spinner("scoring layers and channels, and measuring what they take"):
        classifier, loss = classifier_and_loss(model, samples.x, samples.y, head=args.head)

        def choose_within(accounting, untrainable):
            return choose(classifier, samples.x, loss, budget, accounting=accounting, frozen=untrainable, **choice)

        plan, layout = plan_for(device, model, samples, choose_within)
    plan, line = with_time(plan, layout, args.time)
    if args.figure:
        from keras_tinytrain.cli.plan_figure import write_figure

        write_figure(plan, args.figure)
    if args.out:
        plan.save(args.out)
    timeless = dataclasses.replace(layout, time=None) if layout and line else layout  # the line tells it
    _print(plan, timeless, args)
    if line and not args.json:
        print(line)
    return 0


def _print(plan, layout, args):
    from rich import print as rich_print

    from keras_tinytrain.cli.tables import plan_table

    if args.json or plan.explanation is None:
        print(plan.to_json())
    elif args.explain:
        print(plan.explain())
    else:
        rich_print(plan_table(plan, is_laid_out=layout is not None))
        print(plan.explanation.candidates)
    if layout is not None and not args.json:
        print(layout.in_short)
