"""The closed-form head: its solution against plain linear algebra, the maps that it reads, and what it answers."""

import keras
import numpy as np
import pytest
from keras import layers
from models import images, labelled_images, pooled_net, sequence_net, tiny_net

from keras_tinytrain import LayerPlan, Plan
from keras_tinytrain.fewshot import _choice_of_head as choice
from keras_tinytrain.fewshot import adaptation
from keras_tinytrain.fewshot._choice_of_head import closed_form_holds
from keras_tinytrain.fewshot._ridge_head import RidgeHead
from keras_tinytrain.fewshot.adaptation import adapt, classifier_from_delta, prototype_classifier
from keras_tinytrain.fewshot.classifier import FewShotClassifier
from keras_tinytrain.fewshot.ridge import RIDGE, leave_one_out, normalised, solve
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.model.maps import find_maps, with_maps

PLAN = Plan((LayerPlan("b2.pw1", (0, 3, 7)), LayerPlan("b2.pw2", tuple(range(6)))))
SIZES = 4, 6, 1


@pytest.fixture
def support():
    """Features of an imbalanced support set, with a sample that equals another."""
    features = np.random.default_rng(3).normal(2, 1, (14, sum(SIZES)))
    features[5] = features[4]
    return features, np.repeat([0, 1, 2], [7, 6, 1])


def test_solution_minimises_the_ridge_objective(support):
    """score = z W with W = argmin ||Z W - Y||^2 + lambda ||W||^2, solved for W itself and not through K."""
    features, labels = support
    found = solve(features, labels, 3, SIZES)
    rows = normalised(features, features.mean(axis=0), SIZES)
    targets = np.eye(3)[labels] - 1 / 3
    expected = np.linalg.solve(rows.T @ rows + RIDGE * np.eye(sum(SIZES)), rows.T @ targets)
    np.testing.assert_allclose(found.kernel, expected, atol=1e-6)
    np.testing.assert_allclose(np.sum(rows**2, axis=1), 1)


def test_a_sample_left_out_entirely_takes_no_part_in_the_means(support):
    """`leave_one_out`, which works from products of features, against solving for the other samples; at least one sample's class has no other."""
    features, labels = support
    for sizes in (SIZES, (11,)):
        found = leave_one_out(features, labels, 3, sizes)
        for i in range(len(labels)):
            rest = np.arange(len(labels)) != i
            others = solve(features[rest], labels[rest], 3, sizes)
            expected = normalised(features[i : i + 1], features[rest].mean(axis=0), sizes) @ others.kernel
            np.testing.assert_allclose(found[i], expected[0], atol=1e-6)
        head = RidgeHead.of(features, labels, 3, (), sizes)
        assert head.leave_one_out == np.mean(found.argmax(axis=1) == labels)


def test_a_part_that_is_the_same_for_all_samples_is_no_division_by_zero():
    found = solve([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]], [0, 0, 1], 2, (1, 1))
    assert np.isfinite(found.kernel).all() and not found.kernel[1].any()


def test_head_answers_by_the_maps_of_the_adapted_network(net, task):
    """Against NumPy on the outputs of a Keras model that is cut by hand; the map of 6 x 6 is averaged to 3 x 3 by 2 x 2."""
    learned = adapt(net, *task, plan=PLAN, iterations=3, head="ridge", maps=["b1.add"], average=0.5)
    x = images(net, 5, seed=9)
    tuned = adapt(net, *task, plan=PLAN, iterations=3, average=0, late_prototypes=True, head="prototypes").model
    scores = []
    for network in (net, tuned):
        outputs = keras.Model(network.inputs, [network.get_layer("b1.add").output, network.get_layer("pool").output])
        z, q = (np.concatenate([*_pooled(outputs(each))], axis=1) for each in (task[0], x))
        sizes = 54, 12
        found = solve(z, task[1], 3, sizes)
        scores.append(normalised(q, z.mean(axis=0), sizes) @ found.kernel)
    np.testing.assert_allclose(learned.logits(x), 10 * np.mean(scores, axis=0), atol=2e-4)


def _pooled(outputs):
    first, embedding = map(np.asarray, outputs)
    return first.reshape(len(first), 3, 2, 3, 2, -1).mean(axis=(2, 4)).reshape(len(first), -1), embedding


def test_nothing_trained_is_the_same_as_no_iterations(net, task):
    nothing = prototype_classifier(net, *task).with_ridge_head(*task)
    idle = adapt(net, *task, plan=PLAN, iterations=0, head="ridge")
    np.testing.assert_allclose(idle.logits(task[0]), nothing.logits(task[0]), atol=1e-5)
    assert nothing.plan is None and nothing.evaluate(*task) == nothing.evaluate(*task).before


def test_a_class_cannot_be_added_where_the_samples_are_not_known(net, task):
    restored = classifier_from_delta(net, adapt(net, *task, plan=PLAN, iterations=1, head="ridge").delta)
    with pytest.raises(ValueError, match="holds no samples: it comes from a delta"):
        restored.add_class(images(net, 2, seed=4))


def test_delta_of_other_maps_is_refused(net, task):
    delta = adapt(net, *task, plan=PLAN, iterations=1, head="ridge", maps=["b1.add"]).delta
    with pytest.raises(ValueError, match=r"reads 66 features, and maps stem, b1.add, b2.pw2 with .* give 228"):
        classifier_from_delta(net, delta)


def _bottlenecks(strides):
    """Inverted bottlenecks c0, c1, ... of these strides; (N, 24, 24, 1) -> (N, 8)."""
    x = image = keras.Input((24, 24, 1))
    for index, stride in enumerate(strides):
        x = layers.Conv2D(16, 1, activation="relu6", name=f"c{index}.pw1")(x)
        x = layers.DepthwiseConv2D(3, stride, padding="same", activation="relu6", name=f"c{index}.dw")(x)
        x = layers.Conv2D(8, 1, name=f"c{index}.pw2")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (_bottlenecks([1, 2, 2, 1, 1, 1]), ("c2.pw2", "c4.pw2", "c5.pw2")),  # first at the last resolution, and the last two
        (_bottlenecks([1, 2, 1, 2]), ("c2.pw2", "c3.pw2")),
        (pooled_net(), ("average", "relu")),  # no bottlenecks: the last at each resolution
        (keras.Sequential([keras.Input((7,)), layers.Dense(5)]), ()),
    ],
)
def test_maps_are_found_in_the_graph(model, expected):
    assert find_maps(layer_table(model)) == expected


def test_sequences_and_odd_maps_are_averaged_by_equal_windows():
    x = image = keras.Input((11, 4))
    x = layers.Conv1D(3, 3, padding="same", name="steps")(x)
    model = keras.Model(image, layers.GlobalAveragePooling1D()(x))
    network, sizes = with_maps(model, ["steps"])
    samples = np.random.default_rng(0).normal(size=(2, 11, 4)).astype(np.float32)
    steps = np.asarray(model.get_layer("steps")(samples))
    windows = np.stack([steps[:, start : start + 5].mean(axis=1) for start in (0, 3, 6)], axis=1)  # 11 - 2 * 3 steps each
    assert sizes == (9, 3)
    np.testing.assert_allclose(network(samples)[:, :9], windows.reshape(2, 9), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "message"), [("nothere", "has no layer 'nothere'. Its layers: "), ("pool", "layer 'pool' is no map")]
)
def test_layers_without_maps_are_refused(net, task, name, message):
    with pytest.raises(ValueError, match=message):
        adapt(net, *task, plan=PLAN, iterations=0, head="ridge", maps=[name])


def test_maps_for_another_head_are_refused(net, task):
    with pytest.raises(ValueError, match=r"maps: read by head='ridge' alone. Received: head='auto'"):
        adapt(net, *task, plan=PLAN, maps=["stem"])


def test_nothing_is_trained_where_the_closed_form_head_needs_no_training(net, task):
    settings = {"plan": PLAN, "iterations": 2, "head": "ridge", "only_if_needed": True}
    easy = adapt(net, *task, **settings)
    assert easy.leave_one_out == 1 and easy.plan is None and easy.losses == []
    shuffled = np.roll(task[1], 1)  # labels that no head gets right
    hard = adapt(net, task[0], shuffled, **settings)
    assert hard.plan == PLAN and len(hard.losses) == 2


def test_one_part_alone_answers():
    """A network without maps: the embedding is the only part."""
    rows = np.random.default_rng(0).normal(1, 1, (6, 4)).astype(np.float32)
    head = RidgeHead.of(rows, [0, 0, 0, 1, 1, 1], 2, (), (4,))
    np.testing.assert_allclose(head.logits(rows), 10 * normalised(rows, head.means, (4,)) @ head.kernel.T, atol=1e-4)


@pytest.mark.parametrize("head", [None, "ridge", "prototypes"])
def test_head_that_is_not_named_is_chosen_by_samples_left_out(net, task, head, monkeypatch):
    """Where the closed form holds it answers, as `head="ridge"` does; else the prototypes do; the classifier says which."""
    if head is not None:
        monkeypatch.setattr(FewShotClassifier, "closed_form_holds", head == "ridge")
    learned = adapt(net, *task, plan=PLAN, iterations=2)
    named = adapt(net, *task, plan=PLAN, iterations=2, late_prototypes=True, head=learned.head)
    assert np.array_equal(learned.logits(task[0]), named.logits(task[0])) and f"head {learned.head};" in str(learned)
    assert learned.head in ([head] if head else ["ridge", "prototypes"])


@pytest.mark.parametrize(
    ("build", "head", "holds", "expected"),
    [
        (tiny_net, "auto", True, (10, True)),
        (tiny_net, "auto", False, (10, True)),
        (sequence_net, "auto", True, (10, True)),
        (sequence_net, "auto", False, (40, False)),
        (tiny_net, "prototypes", True, (40, False)),
        (tiny_net, "ridge", False, (10, True)),
    ],
)
def test_iterations_are_those_that_the_head_needs(build, head, holds, expected, monkeypatch):
    """Prototypes that were chosen for images train as the closed-form head does; those of windows in time as the paper does."""
    trained_with = []

    def record(step, late_step, features, queries, membership, channels, trained, *, iterations, **settings):
        trained_with.append((iterations, late_step is not None))
        return trained, []

    monkeypatch.setattr(FewShotClassifier, "closed_form_holds", holds)
    monkeypatch.setattr(adaptation, "train", record)
    net = build()
    layer = next(each.name for each in net.layers if isinstance(each, (layers.Conv1D, layers.Conv2D)))
    adapt(net, *labelled_images(net, per_class=2, classes=2), plan=Plan((LayerPlan(layer, (0, 1)),)), head=head)
    assert trained_with == [expected]


def _head(angles, labels):
    """A head of an embedding alone, in two dimensions."""
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return RidgeHead.of(features, np.asarray(labels), max(labels) + 1, (), (2,))


@pytest.mark.parametrize(
    ("angles", "labels", "expected"),
    [
        ([0.0, 0.1, 2.0, 2.1], [0, 0, 1, 1], (True, False)),  # both heads get all right
        ([0.0, 1.0], [0, 1], (True, False)),  # nothing can be left out
        ([0.0, 0.1, 2.0], [0, 0, 1], (True, False)),  # the only sample of a class is not counted
    ],
)
def test_closed_form_holds_unless_it_is_worse_and_in_time_if_it_is_better(angles, labels, expected):
    head = _head(angles, labels)
    assert (closed_form_holds(head, in_time=False), closed_form_holds(head, in_time=True)) == expected


@pytest.mark.parametrize(("wins", "losses", "images", "in_time"), [(2, 0, 1, 1), (1, 0, 1, 0), (4, 3, 1, 0), (0, 1, 0, 0)])
def test_windows_in_time_ask_for_more_than_chance(wins, losses, images, in_time, monkeypatch):
    """McNemar's test: (wins - losses) / sqrt(wins + losses) beyond 1.28; images ask for no loss."""
    labels = np.repeat([0, 1], 10)
    solved, cosine = np.eye(2)[labels], np.eye(2)[labels]
    solved[:losses], cosine[losses : losses + wins] = solved[:losses, ::-1].copy(), cosine[losses : losses + wins, ::-1].copy()
    monkeypatch.setattr(choice, "leave_one_out", lambda *_: solved)
    monkeypatch.setattr(choice, "leave_one_out_logits", lambda *_: cosine)
    head = _head(np.linspace(0, 3, 20), labels)
    assert (closed_form_holds(head, in_time=False), closed_form_holds(head, in_time=True)) == (images, in_time)
