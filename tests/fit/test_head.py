"""The classifier's head in `fit`: whole in every chosen plan, and paid first."""

import re

import keras
import pytest
from callbacks import BUDGET, callback, compiled, moved_channels
from models import batch, small_net

from keras_tinytrain import Budget, LayerPlan, TinyTrainCallback
from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.paper_cost import PaperAccounting
from keras_tinytrain.choose.planner import choose, summed_cross_entropy
from keras_tinytrain.model.layers import layer_table

WHOLE = (0, 1, 2)  # classes of `small_net`
LEAST = Budget(16 * 18 + 4 * 768, 18)  # the head alone in the paper's accounting: 6 x 3 weights; 8 x 8 x (6 + 6) values


def tiny(budget=LEAST, **options):
    return TinyTrainCallback(budget, accounting=PaperAccounting(), verbose=0, **options)


def convolutional(**options):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 1, activation="relu", name="features"),
            layers.Conv2D(3, 1, name="classes"),
            layers.GlobalAveragePooling2D(),
            layers.Softmax(),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", **options)
    return model


def plan_of(model, callback):
    model.fit(*batch(), callbacks=[callback], verbose=0)
    return callback.plan


@pytest.mark.parametrize("strategy", ["fisher", "l2", "random", "redrawn", "bias_only", "last_layer", "full", "none"])
def test_head_is_whole_in_every_chosen_plan(strategy):
    x, y = batch()
    plan = choose(small_net(), x, summed_cross_entropy(y), BUDGET, strategy=strategy, head="logits", layers=["project"])
    assert plan["logits"] == LayerPlan("logits", WHOLE)


def test_head_is_trained_whole():
    model = compiled()
    plan_of(model, callback())
    assert moved_channels(model, small_net())["logits"] == WHOLE


def test_smallest_budget_of_the_head_trains_the_head_alone():
    assert [layer.name for layer in plan_of(compiled(), tiny()).layers] == ["logits"]


def test_channels_share_the_budget_that_the_head_leaves():
    model, budget = compiled(), Budget(LEAST.memory_bytes + 16 * 6 * 2, 0.9)  # two channels of `project` more
    plan = plan_of(model, tiny(budget, layers=["project"]))
    assert {layer.name: len(layer.channels) for layer in plan.layers} == {"project": 2, "logits": 3}
    assert PaperAccounting().memory_bytes(layer_table(model), paper_cost.num_channels(plan)) <= budget.memory_bytes


@pytest.mark.parametrize("budget", [Budget(LEAST.memory_bytes - 1, 0.9), Budget("64KB", 17), Budget(compute=17)])
def test_budget_that_cannot_hold_the_head_names_the_smallest_that_can(budget):
    with pytest.raises(ValueError, match=r"too small to train all of 'logits' .* would do is Budget\(.*\)") as error:
        plan_of(compiled(), tiny(budget))
    memory, compute = re.search(r"would do is Budget\((?:memory=\"(\d+)B\", )?compute=(\d+)\)", str(error.value)).groups()
    assert (memory and int(memory), int(compute)) == (budget.memory and LEAST.memory_bytes, 18)
    assert plan_of(compiled(), tiny(Budget(memory, int(compute))))["logits"].channels == WHOLE


def test_head_is_a_candidate_like_the_others_where_it_is_turned_off():
    assert "logits" not in [layer.name for layer in plan_of(compiled(), callback(head=None, layers=["project"])).layers]


def test_other_layer_is_named_as_the_head():
    plan = plan_of(compiled(), callback(head="depthwise", layers=["project"]))
    assert plan["depthwise"].channels == tuple(range(6)) and "logits" not in [layer.name for layer in plan.layers]
    with pytest.raises(ValueError, match="no layer 'nowhere'"):
        plan_of(compiled(), callback(head="nowhere"))
    with pytest.raises(ValueError, match=r"'pool' \(it has no channels\)"):
        plan_of(compiled(), callback(head="pool"))


def test_convolutional_head_is_trained_whole():
    assert plan_of(convolutional(), callback())["classes"].channels == WHOLE


def test_head_that_the_user_froze_stays_frozen():
    model = compiled()
    model.get_layer("logits").trainable = False
    assert "logits" not in [layer.name for layer in plan_of(model, callback()).layers]


def test_given_plan_stays_as_given():
    plan = plan_of(compiled(), callback(strategy="fisher", head=None, layers=["project"]))
    assert plan_of(compiled(), callback(plan=plan)) == plan


def test_budget_without_memory_limits_compute_alone():
    made = TinyTrainCallback(Budget(compute=0.3), verbose=0)
    plan = plan_of(compiled(), made)
    assert plan["logits"].channels == WHOLE and "bytes (no memory limit)" in plan.explain() and "memory (" not in plan.explain()
    assert TinyTrainCallback.from_config(made.get_config()).budget == Budget(compute=0.3)


class ShorterFrozenPart:
    """An accounting in which the head alone takes more than the head with one channel before it, as on devices."""

    def memory_bytes(self, table, choice):
        return 1000 - 100 * ("project" in choice) + 10 * sum(choice.values())


def test_head_that_fits_only_with_an_earlier_layer_is_not_refused():
    x, y = batch()

    def chosen(memory):
        options = {"head": "logits", "layers": ["project"], "accounting": ShorterFrozenPart()}
        return choose(small_net(), x, summed_cross_entropy(y), Budget(memory, 1), **options)

    assert paper_cost.num_channels(chosen(960)) == {"project": 3, "logits": 3}
    with pytest.raises(ValueError, match=r'The smallest that would do is Budget\(memory="940B", compute=\d+\)'):
        chosen(939)
