"""Forward passes that are not made: how many are left, and what is learned without them."""

import numpy as np
import pytest
from models import images, labelled_images, pooled_net, sequence_net, tiny_net

from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.answering_head import head_of_delta
from keras_tinytrain.run.micro_model import MicroModel

WAYS, SHOTS, ITERATIONS = 3, 2, 3
SAMPLES = WAYS * SHOTS


def exported(build, trained, views, head, out):
    model = build()
    plan = Plan(tuple(LayerPlan(name, channels) for name, channels in trained.items()))
    training = TrainingSettings(learning_rate=0.01, iterations=ITERATIONS, num_classes=WAYS, max_samples=SAMPLES)
    return export_tflm(model, plan, calibration=images(model, 8), out=out, training=training, views=views, head=head)


@pytest.fixture(params=[(), ((1, 0),)], ids=["plain", "views"])
def bundle(request, tmp_path):
    return exported(pooled_net, {"first": (0, 5), "hidden": (1, 7)}, request.param, "prototypes", tmp_path / "b")


@pytest.fixture
def samples():
    return labelled_images(pooled_net(), per_class=SHOTS, classes=WAYS)


@pytest.fixture
def passes(monkeypatch):
    """One entry for each forward pass of the frozen or of the trainable part."""
    found, run = [], MicroModel.__call__
    monkeypatch.setattr(MicroModel, "__call__", lambda self, x: (found.append(1), run(self, x))[1])
    return found


def test_the_first_prototypes_are_the_original_ones(bundle, samples, passes):
    host = HostRuntime(bundle)
    host.add_samples(*samples)
    passes.clear()
    host.train()
    assert len(passes) == ITERATIONS * 2 * SAMPLES + SAMPLES


def test_late_prototypes_take_one_pass_a_sample(bundle, samples, passes):
    host = HostRuntime(bundle, settings={"late_prototypes": True})
    host.add_samples(*samples)
    passes.clear()
    host.train()
    assert len(passes) == 2 * SAMPLES + (ITERATIONS - 1) * SAMPLES + SAMPLES


def test_the_original_prototypes_are_those_of_passes_of_their_own(bundle, samples):
    """After a delta was loaded, they are embedded again."""
    host, again = HostRuntime(bundle), HostRuntime(bundle)
    for runtime in (host, again):
        runtime.add_samples(*samples)
    host.train()
    delta = bytes(host.trainer.save_delta(0))
    again.trainer.load_delta(delta)
    again.trainer.update_prototypes()
    assert bytes(again.trainer.save_delta(0)) == delta
    x = samples[0]
    np.testing.assert_array_equal(again.predict(x), host.predict(x))


def test_samples_that_come_later_are_in_the_original_prototypes(bundle, samples):
    """Trained, then a sample more, then trained on: as from a delta with all samples."""
    x, y = samples
    host, again = HostRuntime(bundle), HostRuntime(bundle)
    host.add_samples(x[:-1], y[:-1])
    host.train()
    host.add_samples(x[-1:], y[-1:])
    host.trainer.update_prototypes()
    again.add_samples(x, y)
    again.trainer.load_delta(bytes(host.trainer.save_delta(0)))
    again.trainer.update_prototypes()
    assert bytes(again.trainer.save_delta(0)) == bytes(host.trainer.save_delta(0))


CHOOSES = {  # network, trained channels, iterations with late prototypes where the prototypes answer: windows in time have none
    "images": (tiny_net, {"b2_project": (1, 3), "logits": (0,)}, True),
    "windows": (sequence_net, {"second": (1, 2, 4)}, False),
}


@pytest.mark.parametrize("views", [(), ((0, 1),)], ids=["plain", "views"])
@pytest.mark.parametrize("net", CHOOSES)
def test_the_choice_of_the_head_leaves_the_first_prototypes(net, views, passes, tmp_path):
    """Both heads learn the same as where a prediction in between has overwritten the embeddings, and they are computed anew."""
    build, trained, late = CHOOSES[net]
    bundle = exported(build, trained, views, "auto", tmp_path / "b")
    x, y = labelled_images(build(), per_class=SHOTS, classes=WAYS)
    found = set()
    for labels in (y, *(np.random.default_rng(seed).permutation(y) for seed in range(8))):
        host, again, alone = (HostRuntime(bundle) for _ in range(3))
        for runtime in (host, again, alone):
            runtime.add_samples(x, labels)
        again.solve()
        again.predict(x[:1])
        passes.clear()
        losses = again.train()
        computed = len(passes)
        passes.clear()
        assert host.train() == losses
        by_closed_form = host.trainer.closed_form_answers
        iteration = SAMPLES if by_closed_form or late else 2 * SAMPLES
        # The choice, which makes the first iteration's prototypes, and the end.
        assert len(passes) == SAMPLES + SAMPLES + (ITERATIONS - 1) * iteration + SAMPLES
        assert computed == len(passes)  # no second choice, and the first prototypes once more
        passes.clear()
        alone.solve()
        assert len(passes) == SAMPLES
        passes.clear()
        assert alone.train() == losses and len(passes) == computed - SAMPLES
        assert len({bytes(each.trainer.save_delta(0)) for each in (host, again, alone)}) == 1
        assert head_of_delta(bundle, bytes(host.trainer.save_delta(0))) == host.head
        found.add(by_closed_form)
    assert found == {True, False}


def test_what_has_changed_since_the_choice_is_solved_anew(passes, tmp_path):
    """Gradients make prototypes for themselves, in the place of the closed form's."""
    build, trained, _ = CHOOSES["images"]
    host = HostRuntime(exported(build, trained, (), "auto", tmp_path / "b"), settings={"iterations": 0})
    host.add_samples(*labelled_images(build(), per_class=SHOTS, classes=WAYS))
    host.solve()
    assert host.trainer.closed_form_answers
    passes.clear()
    host.train()
    assert not passes
    host.trainer.compute_gradients()
    assert not host.trainer.closed_form_answers
    passes.clear()
    host.train()
    assert host.trainer.closed_form_answers and len(passes) == SAMPLES
