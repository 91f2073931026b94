"""Plan.explain and the figure."""

import pytest
from models import labelled_images, tiny_net

from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.planner import choose, summed_cross_entropy
from keras_tinytrain.choose.selection import select
from keras_tinytrain.cli.plan_figure import memory_over_time, write_figure
from keras_tinytrain.plan import Budget, LayerPlan, Plan


@pytest.fixture(scope="module")
def plan():
    model = tiny_net()
    x, y = labelled_images(model, per_class=2, classes=5)
    options = {"kinds": "all", "accounting": paper_cost.PaperAccounting()}
    return choose(model, x, summed_cross_entropy(y), Budget("6KB", 0.6), **options)


def lines_by_layer(plan):
    lines = plan.explain().splitlines()
    return {name: next(line for line in lines if line.startswith(f"{name} ")) for name in plan.explanation.ranking.layers}


def test_every_candidate_is_told_in_the_order_of_its_score(plan):
    text = plan.explain()
    order = sorted(plan.explanation.ranking.layers, key=plan.explanation.ranking.layers.get, reverse=True)
    positions = [text.index(f"\n{name} ") for name in order]
    assert positions == sorted(positions)
    for name, line in lines_by_layer(plan).items():
        row = plan.explanation.table[name]
        potential, score = plan.explanation.ranking.channels[name].sum(), plan.explanation.ranking.layers[name]
        assert {f"{potential:.3g}", f"{row.num_weights:,}", f"{row.macs:,}", f"{score:.3g}"} <= set(line.split())


def test_layers_say_why_they_were_taken_or_left(plan):
    taken = paper_cost.num_channels(plan)
    for name, line in lines_by_layer(plan).items():
        size = plan.explanation.table[name].num_channels
        if taken.get(name) == size:
            assert "taken whole" in line
        else:
            assert ("taken: one more channel needs" if name in taken else "left: one more channel needs") in line
            assert line.endswith(("bytes more", "MACs more"))


def test_reason_is_the_exact_shortage(plan):
    explanation, budget = plan.explanation, plan.budget
    choices = paper_cost.num_channels(plan)
    name = next(
        name for name in plan.explanation.ranking.layers if choices.get(name, 0) < plan.explanation.table[name].num_channels
    )
    more = {**choices, name: choices.get(name, 0) + 1}
    missing = paper_cost.PaperAccounting().memory_bytes(plan.explanation.table, more) - budget.memory_bytes
    needs = f"{missing:,} bytes" if missing > 0 else "MACs"
    assert needs in explanation.reason(plan, name)


def test_explanation_says_what_more_memory_would_add(plan):
    text = plan.explain()
    for share, memory in (("+25%", 7680), ("+50%", 9216), ("+100%", 12288)):
        line = next(line for line in text.splitlines() if line.startswith(share))
        assert f"({memory:,} bytes)" in line
        wider = paper_cost.num_channels(plan.explanation.choose(Budget(memory, 0.6)))
        for name in wider:
            change = wider[name] - paper_cost.num_channels(plan).get(name, 0)
            assert change == 0 or f"{name} {change:+d} channel{'s' if abs(change) > 1 else ''}" in line


def test_explanation_says_which_limit_binds(plan):
    """Where more memory adds nothing: all is taken, compute is the limit, or memory still is."""
    choose = plan.explanation.choose
    explained = choose(Budget("1MB", 1.0)).explain()
    assert explained.count("nothing; all candidates are taken whole") == 3
    assert choose(Budget("1MB", 0.6)).explain().count("nothing; compute is the limit") == 3
    dear = select(plan.explanation.table, plan.explanation.ranking, Budget(1500, 1.0), accounting=Dear())
    lines = dear.explain().splitlines()
    assert lines[-3].startswith("+25% memory (1,875 bytes): nothing; memory is the limit: one more channel of ")
    assert lines[-3].endswith(" needs 125 bytes more")
    assert all("+1 channel" in line or "+2 channels" in line for line in lines[-2:])


class Dear:
    """Each channel takes 1000 bytes."""

    def memory_bytes(self, table, choice):
        return 1000 * sum(choice.values())


def test_plan_from_a_file_says_that_its_scores_are_not_known(plan, tmp_path):
    plan.save(tmp_path / "plan.json")
    for unexplained in (Plan.load(tmp_path / "plan.json"), Plan((LayerPlan("logits", (0,)),))):
        with pytest.raises(ValueError, match="was not chosen here.*plan --explain"):
            unexplained.explain()
        with pytest.raises(ValueError, match="was not chosen here"):
            write_figure(unexplained, tmp_path / "plan.png")


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_figure_of_a_plan_is_written(plan, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    write_figure(plan, tmp_path / f"plan{suffix}")
    head = (tmp_path / f"plan{suffix}").read_bytes()[:4]
    assert head == b"\x89PNG" if suffix == ".png" else head == b"<?xm"


def test_figure_shows_the_budget_names_layers_and_colours_the_taken_ones(plan, tmp_path):
    pytest.importorskip("matplotlib")
    write_figure(plan, tmp_path / "plan.svg")
    drawn = (tmp_path / "plan.svg").read_text()
    for text in ("budget, 6.0 KB", "end of the forward pass, start of the backward pass", "candidates: 9 of 9 layers", "taken"):
        assert f"<!-- {text} -->" in drawn
    for name in plan.explanation.table.names:
        assert f"<!-- {name} -->" in drawn
    for name in paper_cost.num_channels(plan):
        label = drawn.split(f"<!-- {name} -->")[1].split("</g>")[0]
        assert "#1f77b4" in label  # tab:blue


def test_memory_over_time_by_hand(plan):
    """Training the last layer keeps its input to the end; nothing else."""
    moments = memory_over_time(plan.explanation.table, {"logits"})
    names, sizes = [name for name, _ in moments], [size for _, size in moments]
    assert names == [row.name for row in plan.explanation.table] + ["logits"]
    assert sizes[0] == 12 * 12 * 3
    assert sizes[names.index("stem")] == 12 * 12 * 3 + 6 * 6 * 8
    assert sizes[-1] == 12 + 4 * 5
    assert max(size for _, size in memory_over_time(plan.explanation.table, {"stem"})) > max(sizes)
