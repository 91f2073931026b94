"""What training may leave out: late prototypes, learned samples, iterations after the task is learned."""

import numpy as np
import pytest

from tests.runtime.reference import Reference
from tests.runtime.test_learning import LABELS, assert_same_steps, trainer_with

RATES = {"setup": 0.3, "with_views": 0.3, "softmax": 0.1}
LATE = {"late_prototypes": True, "leave_one_out": True}


def middle_loss(setup, **settings):
    """Some samples have a smaller loss in the first iteration, others a larger one, and none this one."""
    reference = Reference(setup.net, setup.images, LABELS, **settings)
    view, embeddings = int(bool(setup.net.views)), np.stack([reference.embed(views[0])[1] for views in reference.stored])
    losses = np.unique(np.round([reference.sample_gradient(s, view, embeddings)[0] for s in range(len(LABELS))], 3))
    middle = len(losses) // 2
    return float(losses[middle - 1 : middle + 1].mean())


@pytest.mark.parametrize("which", RATES)
@pytest.mark.parametrize("updates", ["accumulated", "immediate"])
@pytest.mark.parametrize("left_out", [{"late_prototypes": True}, LATE, {"skip_loss": 0}, {**LATE, "skip_loss": 0}], ids=str)
def test_what_is_left_out_is_as_in_float64(which, updates, left_out, request):
    setup = request.getfixturevalue(which)
    settings = {"optimizer": "sgd", "learning_rate": RATES[which], "updates": updates, **left_out}
    if "skip_loss" in left_out:
        settings["skip_loss"] = middle_loss(setup, leave_one_out=settings.get("leave_one_out", False))
    trainer, reference = trainer_with(setup, LABELS, **settings), Reference(setup.net, setup.images, LABELS, **settings)
    assert_same_steps(trainer, reference, setup.net)


@pytest.mark.parametrize(
    "between", [lambda t, x: t.compute_gradients(), lambda t, x: t.predict(x), lambda t, x: t.update_prototypes()]
)
def test_late_prototypes_are_computed_again_after_anything_between(setup, between):
    """The embeddings lie in memory that other calls overwrite."""
    settings = {"learning_rate": 0.3, **LATE}
    trainer, reference = trainer_with(setup, LABELS, **settings), Reference(setup.net, setup.images, LABELS, **settings)
    for _ in range(2):
        assert trainer.step() == pytest.approx(reference.step(), rel=1e-5)
        between(trainer, setup.images[0])
        reference.late = None


def test_training_ends_when_the_loss_is_small(setup):
    losses, ended = [], []
    trainer_with(setup, LABELS, learning_rate=0.3, iterations=6).train(lambda iteration, loss: losses.append(loss))
    last = next(i for i in range(2, 6) if losses[i] < min(losses[:i]))
    stop_loss = (losses[last] + min(losses[:last])) / 2
    trainer = trainer_with(setup, LABELS, learning_rate=0.3, iterations=6, stop_loss=stop_loss)
    trainer.train(lambda iteration, loss: ended.append(loss))
    assert ended == losses[: last + 1] and trainer.iteration == last + 1
