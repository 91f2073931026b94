"""Say in words why each candidate layer was taken or left, and what more memory would add."""

import dataclasses
import math
from collections.abc import Callable

from keras_tinytrain._text import aligned
from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.candidates import candidates_line
from keras_tinytrain.choose.protocols import Accounting
from keras_tinytrain.choose.ranking import Ranking
from keras_tinytrain.model.layers import LayerTable
from keras_tinytrain.plan import Budget, Plan, unexplained

_MORE_MEMORY = (0.25, 0.5, 1.0)
HEADINGS = ("layer", "potential", "parameters", "MACs", "score", "channels", "why")


@dataclasses.dataclass(frozen=True)
class Explanation:
    """The scores and costs that a plan was chosen by.

    Args:
        table: the model's layers.
        ranking: scores of the candidates; the sum over a layer's channels is its potential.
        accounting: the bytes that the memory budget counts.
        choose: budget -> the plan for it by the same scores and rule.
        first: layers that every such plan takes whole, whether scored or not.
    """

    table: LayerTable
    ranking: Ranking
    accounting: Accounting
    choose: Callable[[Budget], Plan]
    first: tuple[str, ...] = ()

    def text(self, plan: Plan) -> str:
        """Candidates in decreasing score, and what more memory would add."""
        rows = [HEADINGS, *(self.cells(plan, name) for name in self.order)]
        table = aligned(rows, left_columns=(HEADINGS.index("why"),))
        has_limit = plan.budget is not None and plan.budget.memory is not None
        more = [self._with_more(plan, share) for share in _MORE_MEMORY if has_limit]
        return "\n".join([self._title(plan), self.candidates, "", table, "", *more]) + "\n"

    @property
    def candidates(self) -> str:
        """How many of the model's layers are candidates, and why the others are not, in one line."""
        return candidates_line(self.table, self.ranking.layers, self.first)

    @property
    def order(self) -> list[str]:
        """Names of the layers that are taken first, then of the candidates, best first."""
        scored = sorted(self.ranking.layers, key=self.ranking.layers.__getitem__, reverse=True)
        return [*self.first, *(name for name in scored if name not in self.first)]

    def costs(self, plan: Plan) -> tuple[tuple[int, int], tuple[int, int]]:
        """(bytes, limit), (backward multiply-accumulates of one sample, limit) of a plan."""
        choice, (memory_bytes, macs) = paper_cost.num_channels(plan), self.limits(plan)
        return (self.accounting.memory_bytes(self.table, choice), memory_bytes), (
            paper_cost.backward_macs(self.table, choice),
            macs,
        )

    def _title(self, plan):
        weights = paper_cost.num_trained_weights(self.table, paper_cost.num_channels(plan))
        (memory_bytes, memory_limit), (macs, macs_limit) = self.costs(plan)
        limit = f"of {memory_limit:,} bytes" if plan.budget.memory is not None else "bytes (no memory limit)"
        return (
            f"Plan by {plan.strategy}: {weights:,} weights, by estimate {memory_bytes:,} {limit}, "
            f"{macs:,} of {macs_limit:,} backward MACs a sample."
        )

    def cells(self, plan: Plan, name: str) -> tuple[str, ...]:
        """The cells of layer `name`, one for each of HEADINGS."""
        row, count, scored = self.table[name], paper_cost.num_channels(plan).get(name, 0), name in self.ranking.layers
        return (
            name,
            f"{self.ranking.channels[name].sum():.3g}" if scored else "-",
            f"{row.num_weights:,}",
            f"{row.macs:,}",
            f"{self.ranking.layers[name]:.3g}" if scored else "-",
            f"{count} of {row.num_channels}" if count else "-",
            self.reason(plan, name),
        )

    def reason(self, plan: Plan, name: str) -> str:
        """Why no more of layer `name` was taken."""
        choice, size = paper_cost.num_channels(plan), self.table[name].num_channels
        count = choice.get(name, 0)
        if count == size:
            return "taken whole, before all others" if name in self.first else "taken whole"
        missing = self._missing(choice, name, plan.budget)
        needs = [f"{count:,} {unit}" for unit, count in missing.items() if count > 0]
        return f"{'taken' if count else 'left'}: one more channel needs {' and '.join(needs)} more"

    def _missing(self, choice, name, budget):
        """{"bytes": ..., "MACs": ...} that `budget` lacks for one more channel of layer `name`; not above 0 where it has them."""
        more = {**choice, name: choice.get(name, 0) + 1}
        macs = budget.backward_macs(paper_cost.full_backward_macs(self.table))
        return {
            "bytes": self.accounting.memory_bytes(self.table, more) - budget.memory_bytes,
            "MACs": paper_cost.backward_macs(self.table, more) - macs,
        }

    def limits(self, plan: Plan) -> tuple[int, int]:
        """(bytes, backward multiply-accumulates) of the plan's budget."""
        if plan.budget is None:
            raise ValueError(unexplained(plan))
        return plan.budget.memory_bytes, plan.budget.backward_macs(paper_cost.full_backward_macs(self.table))

    def _with_more(self, plan, share):
        memory = math.floor(self.limits(plan)[0] * (1 + share))
        budget = dataclasses.replace(plan.budget, memory=memory)
        before, after = (paper_cost.num_channels(found) for found in (plan, self.choose(budget)))
        changes = {name: after.get(name, 0) - before.get(name, 0) for name in self.table.names}
        told = ", ".join(
            f"{name} {change:+d} channel{'s' if abs(change) > 1 else ''}" for name, change in changes.items() if change
        )
        return f"{share:+.0%} memory ({memory:,} bytes): {told or f'nothing; {self._limit(after, budget)}'}"

    def _limit(self, choice, budget):
        """What keeps `budget` from training more than `choice`: all is taken, compute, or memory."""
        missing = {
            name: self._missing(choice, name, budget)
            for name in self.order
            if choice.get(name, 0) < self.table[name].num_channels
        }
        if not missing:
            return "all candidates are taken whole"
        lacking_bytes = {name: lack["bytes"] for name, lack in missing.items() if lack["MACs"] <= 0}
        if not lacking_bytes:
            return "compute is the limit"
        name = min(lacking_bytes, key=lacking_bytes.__getitem__)
        return f"memory is the limit: one more channel of {name} needs {lacking_bytes[name]:,} bytes more"


def explanation_of(plan: Plan) -> Explanation:
    """The scores and costs that `plan` was chosen by. Raises ValueError where they are not known, as `Plan.explain` does."""
    if isinstance(plan.explanation, Explanation):
        return plan.explanation
    raise ValueError(unexplained(plan))
