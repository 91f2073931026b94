"""What is worth training, and what does it cost? Scores, strategies, the choice within a budget, and its accounting."""

import typing

from keras_tinytrain._public import lazy_names

if typing.TYPE_CHECKING:
    from keras_tinytrain.choose.fisher import fisher_information
    from keras_tinytrain.choose.paper_cost import PaperAccounting
    from keras_tinytrain.choose.ranking import Ranking
    from keras_tinytrain.choose.sram import DeviceAccounting
    from keras_tinytrain.choose.strategies import STRATEGIES, Task, strategy

_HOMES = {
    "DeviceAccounting": "sram",
    "PaperAccounting": "paper_cost",
    "Ranking": "ranking",
    "STRATEGIES": "strategies",
    "Task": "strategies",
    "fisher_information": "fisher",
    "strategy": "strategies",
}
__all__ = ["STRATEGIES", "DeviceAccounting", "PaperAccounting", "Ranking", "Task", "fisher_information", "strategy"]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
