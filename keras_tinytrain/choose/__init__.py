"""What is worth training, and what does it cost? Scores, strategies, the choice within a budget, and its accounting."""

import typing

from keras_tinytrain._public import lazy_names

if typing.TYPE_CHECKING:
    from keras_tinytrain.choose.fisher import fisher_information
    from keras_tinytrain.choose.paper_cost import PaperAccounting
    from keras_tinytrain.choose.planner import choose, summed_cross_entropy
    from keras_tinytrain.choose.protocols import Accounting, Loss, Scorer
    from keras_tinytrain.choose.ranking import Ranking
    from keras_tinytrain.choose.sram import DeviceAccounting
    from keras_tinytrain.choose.strategies import STRATEGIES, Task, find_strategy, make_task, static_plan, strategy

_HOMES = {
    "Accounting": "protocols",
    "DeviceAccounting": "sram",
    "Loss": "protocols",
    "PaperAccounting": "paper_cost",
    "Ranking": "ranking",
    "STRATEGIES": "strategies",
    "Scorer": "protocols",
    "Task": "strategies",
    "choose": "planner",
    "find_strategy": "strategies",
    "fisher_information": "fisher",
    "make_task": "strategies",
    "static_plan": "strategies",
    "strategy": "strategies",
    "summed_cross_entropy": "planner",
}
__all__ = [
    "STRATEGIES",
    "Accounting",
    "DeviceAccounting",
    "Loss",
    "PaperAccounting",
    "Ranking",
    "Scorer",
    "Task",
    "choose",
    "find_strategy",
    "fisher_information",
    "make_task",
    "static_plan",
    "strategy",
    "summed_cross_entropy",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
