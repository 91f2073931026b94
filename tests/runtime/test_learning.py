"""How the trainer updates and predicts under each setting: int8 weights, immediate updates, leave-one-out, averaging."""

import numpy as np
import pytest

from keras_tinytrain import _runtime
from tests.runtime.reference import Reference, keras_change, rows_of
from tests.runtime.trainers import all_of, assert_same_weights, int8_weights

LABELS = np.array([0, 0, 0, 1, 1, 2])  # class 2 has a single sample


# ---- what an iteration is -----------------------------------------------------------------------------------------------


def trainer_with(setup, labels, **settings):
    trainer = setup.trainer(add=False, **settings)
    for image, label in zip(setup.images, labels, strict=True):
        trainer.add_sample(image, int(label))
    return trainer


@pytest.mark.parametrize("which", ["setup", "with_views"])
def test_gradients_leave_the_sample_out(which, request):
    """Classes of three, two and one sample, 1e-5 of the largest gradient; and it is another gradient than with it left in."""
    setup = request.getfixturevalue(which)
    trainer = trainer_with(setup, LABELS, leave_one_out=True)
    loss, expected = Reference(setup.net, setup.images, LABELS, leave_one_out=True).gradient()
    assert trainer.compute_gradients() == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(all_of(trainer, "weight_gradients"), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    left_in = trainer_with(setup, LABELS)
    assert abs(left_in.compute_gradients() - loss) > 0.01 * loss
    np.testing.assert_array_equal(trainer.prototypes(), left_in.prototypes())  # put back as they were


@pytest.mark.parametrize(
    "which, optimizer, learning_rate", [("setup", "sgd", 0.3), ("with_views", "momentum", 0.05), ("softmax", "sgd", 0.1)]
)
@pytest.mark.parametrize("updates", ["accumulated", "immediate"])
@pytest.mark.parametrize("leave_one_out", [False, True])
def test_a_whole_training_equals_float64(which, optimizer, learning_rate, updates, leave_one_out, request):
    setup = request.getfixturevalue(which)
    settings = {"optimizer": optimizer, "learning_rate": learning_rate, "updates": updates, "leave_one_out": leave_one_out}
    trainer = trainer_with(setup, LABELS, **settings)
    reference = Reference(setup.net, setup.images, LABELS, **settings)
    assert_same_steps(trainer, reference, setup.net)
    assert trainer.iteration == 4


def test_immediate_updates_are_others_than_accumulated_ones(setup):
    weights = [trainer_with(setup, LABELS, updates=updates) for updates in ("accumulated", "immediate")]
    for trainer in weights:
        trainer.step()
    assert np.abs(all_of(weights[0], "masters") - all_of(weights[1], "masters")).max() > 0.005


def test_one_sample_is_the_same_either_way(softmax):
    accumulated, immediate = (softmax.trainer(add=False, updates=updates) for updates in ("accumulated", "immediate"))
    for trainer in (accumulated, immediate):
        trainer.add_sample(softmax.images[0], 1)
        trainer.step()
    np.testing.assert_array_equal(all_of(accumulated, "masters"), all_of(immediate, "masters"))


def test_compute_gradients_moves_nothing_with_immediate_updates_too(setup):
    trainer = setup.trainer(updates="immediate")
    before = int8_weights(trainer)
    trainer.compute_gradients()
    assert_same_weights(int8_weights(trainer), before)
    _, expected = Reference(setup.net, setup.images, setup.labels).gradient()
    np.testing.assert_allclose(all_of(trainer, "weight_gradients"), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# ---- Adam with one second moment per channel ----------------------------------------------------------------------------


def test_adam_per_channel_has_one_second_moment_for_all_weights_of_a_channel(setup):
    trainer = setup.trainer(optimizer="adam_per_channel", learning_rate=0.01)
    expected, states = [trainer.masters(i) for i in range(trainer.num_trained)], {}
    for _ in range(4):
        trainer.step()
        for index in range(trainer.num_trained):
            gradients, masters = trainer.weight_gradients(index), trainer.masters(index)
            new = []
            for part, (old, gradient) in enumerate(zip(expected[index], gradients)):
                if old is None:
                    new.append(None)
                    continue
                rows = np.float64(gradient).reshape(len(old), -1)
                state = states.setdefault((index, part), {"v": np.zeros((len(old), 1)), "m": np.zeros_like(rows), "t": 0})
                new.append(old + adam_per_row(rows, state).reshape(old.shape))
                np.testing.assert_allclose(masters[part], new[-1], rtol=1e-5, atol=1e-6)
            expected[index] = new


def adam_per_row(gradients, state, learning_rate=0.01):
    """Keras' Adam with g^2 replaced by its mean over the row."""
    beta_1, beta_2 = np.float64(np.float32(0.9)), np.float64(np.float32(0.999))
    state["t"] += 1
    state["m"] += (gradients - state["m"]) * (1 - beta_1)
    state["v"] += ((gradients**2).mean(axis=1, keepdims=True) - state["v"]) * (1 - beta_2)
    alpha = learning_rate * np.sqrt(1 - beta_2 ** state["t"]) / (1 - beta_1 ** state["t"])
    return -alpha * state["m"] / (np.sqrt(state["v"]) + 1e-7)


# ---- weights in int8 alone ----------------------------------------------------------------------------------------------


def test_philox_gives_the_known_answers():
    """Of Random123, the authors' own implementation: philox2x32, 10 rounds, first word."""
    answers = {(0, 0, 0): 0xFF1DAE59, (0xFFFFFFFF,) * 3: 0x2C3F628B, (0x13198A2E, 0x243F6A88, 0x85A308D3): 0xDD7CE038}
    for (key, *counter), answer in answers.items():
        assert _runtime.philox(key, *counter) == answer


def test_random_numbers_are_uniform_and_differ_by_seed_step_and_weight():
    seeds, steps, weights = np.meshgrid([0, 1, 2**32 - 1], np.arange(20), np.arange(2000), indexing="ij")
    u = _runtime.uniform(seeds.astype(np.uint32), steps.astype(np.uint32), weights.astype(np.uint32)).astype(np.float64)
    assert 0 < u.min() < 1e-4 and 1 - 1e-4 < u.max() < 1
    counts = np.bincount((u.reshape(-1) * 100).astype(int), minlength=100)
    assert np.sum((counts - u.size / 100) ** 2) / (u.size / 100) < 150  # chi square of 99 degrees: 1 in 1000 is above 149
    for shifted in (np.diff(u, axis=0), np.diff(u, axis=1), np.diff(u, axis=2)):
        assert np.var(shifted) == pytest.approx(1 / 6, rel=0.03)  # independent: twice the variance of one


@pytest.mark.parametrize("change", [-2.7, -1.0, -0.5, -0.004, 0.0, 1e-3, 0.25, 0.75, 2.0, 3.4])
@pytest.mark.parametrize("q, limit", [(-100, 127), (3, 127), (-(2**29), 2**30)])
def test_stochastic_rounding_is_right_on_average(q, limit, change):
    """Neighbours only, and the mean within 4 of its standard errors. The scale, not a power of two, adds 1e-6."""
    scale, num_draws = 0.0123, 40000
    u = _runtime.uniform(7, 5, np.arange(num_draws, dtype=np.uint32))
    moved = _runtime.add_stochastically(q, np.float32(change * scale), scale, u, limit).astype(np.int64) - q
    assert set(moved) <= {np.floor(change), np.ceil(change)} or (change == round(change) and np.abs(moved - change).max() <= 1)
    fraction = change - np.floor(change)
    assert abs(moved.mean() - change) <= 4 * np.sqrt(fraction * (1 - fraction) / num_draws) + 1e-6 + 1e-4 * (fraction == 0)


def test_stochastic_rounding_stays_in_range():
    move = lambda q, change, limit=127: int(_runtime.add_stochastically(q, change, 1.0, 0.5, limit))
    assert [move(127, 5.0), move(-127, -5.0), move(0, 1e30), move(0, -1e30)] == [127, -127, 127, -127]
    assert [move(2**30, 1e30, 2**30), move(-(2**30), -1e30, 2**30), move(5, np.nan)] == [2**30, -(2**30), -127]


def assert_same_steps(trainer, reference, net):
    """Losses to 1e-5, masters to 1e-5 of their largest move, int8 weights to the bit, after four iterations."""
    before = reference.masters
    for _ in range(4):
        assert trainer.step() == pytest.approx(reference.step(), rel=1e-5)
    moved = np.abs(reference.masters - before).max()
    assert moved > 0.01
    np.testing.assert_allclose(all_of(trainer, "masters"), reference.masters, rtol=1e-6, atol=1e-5 * moved)
    np.testing.assert_array_equal(trained_int8(net, trainer), reference.rounded())


def trained_int8(net, trainer):
    """Trained int8 weights and int32 biases, flat, in the trainer's order."""
    parts = []
    for index, (layer, channels) in enumerate(net.trained.items()):
        parts.append(rows_of(net.layers[layer], trainer.kernel(index))[channels].reshape(-1).astype(np.int64))
        if trainer.bias(index) is not None:
            parts.append(trainer.bias(index)[channels].astype(np.int64))
    return np.concatenate(parts)


@pytest.mark.parametrize("optimizer, learning_rate", [("sgd", 0.3), ("momentum", 0.1), ("adam", 0.01), ("rmsprop", 0.001)])
def test_int8_weights_move_by_the_change_rounded_stochastically(setup, optimizer, learning_rate):
    """Every weight of every step: from the gradients, in float64, and the documented random numbers."""
    trainer = setup.trainer(optimizer=optimizer, learning_rate=learning_rate, weights="int8", seed=3)
    assert trainer.masters(0) is None
    reference, state = Reference(setup.net, setup.images, setup.labels), {}
    q = trained_int8(setup.net, trainer)
    for step in range(4):
        trainer.step()
        steps = keras_change(optimizer, all_of(trainer, "weight_gradients"), learning_rate, state) / reference.scales
        u = np.float64(_runtime.uniform(3, step, np.arange(q.size, dtype=np.uint32)))
        low = np.floor(steps)
        sure = np.abs(steps - low - u) > 1e-5 * np.maximum(1, np.abs(steps))  # else float32 may fall on the other side
        expected, actual = q + low + (u < steps - low), trained_int8(setup.net, trainer)
        is_weight = ~reference.is_bias  # a bias takes so many of its fine steps that a float32 does not tell them apart
        expected[is_weight] = np.clip(expected, -127, 127)[is_weight]
        assert sure[is_weight].mean() > 0.99
        np.testing.assert_array_equal(actual[sure & is_weight], expected[sure & is_weight])
        np.testing.assert_allclose(actual[~is_weight], expected[~is_weight], rtol=1e-5, atol=1)
        q = actual


def test_a_step_far_below_the_grid_still_moves_weights(setup):
    """Changes of less than half a grid step: nearest rounding would move no kernel at all. Mean over 20 seeds."""
    masters = setup.trainer(optimizer="sgd", learning_rate=1.0)
    masters.compute_gradients()
    reference = Reference(setup.net, setup.images, setup.labels)
    is_weight = ~reference.is_bias
    full = (-all_of(masters, "weight_gradients") / reference.scales)[is_weight]
    rate = 0.45 / np.abs(full).max()
    before = trained_int8(setup.net, masters)[is_weight]
    moves = []
    for seed in range(20):
        trainer = setup.trainer(optimizer="sgd", learning_rate=rate, weights="int8", seed=seed)
        trainer.step()
        moves.append(trained_int8(setup.net, trainer)[is_weight] - before)
    assert np.abs(moves).max() == 1
    expected = np.where(np.abs(before + np.sign(full)) > 127, 0, rate * full)  # at the end of the grid there is no way out
    error = np.sqrt(np.sum(np.abs(expected)) / len(moves))  # of the sum of all moves' mean
    along = np.sum(np.mean(moves, axis=0) * np.sign(full))
    assert abs(along - np.sum(np.abs(expected))) < 4 * error < np.sum(np.abs(expected))


@pytest.mark.parametrize("optimizer, learning_rate", [("adam", 0.005), ("adam_per_channel", 0.005), ("rmsprop", 0.0005)])
def test_int8_weights_learn_as_well_as_masters(setup, optimizer, learning_rate):
    """Mean loss of the last five of 30 iterations: at most 10 % of the way down less, whatever the seed."""
    settings = {"optimizer": optimizer, "learning_rate": learning_rate, "iterations": 30}
    first, with_masters = learned_loss(setup, **settings)
    shortfalls = []
    for seed in range(2):
        _, loss = learned_loss(setup, weights="int8", seed=seed, **settings)
        shortfalls.append((loss - with_masters) / (first - with_masters))
    assert with_masters < 0.5 * first
    assert max(shortfalls) < 0.1, shortfalls


def learned_loss(setup, **settings):
    losses = []
    setup.trainer(**settings).train(lambda iteration, loss: losses.append(loss))
    return losses[0], np.mean(losses[-5:])


def test_the_seed_names_the_run(setup):
    def weights(seed):
        trainer = setup.trainer(weights="int8", seed=seed, updates="immediate")
        trainer.train()
        delta = trainer.save_delta()
        trainer.revert()
        trainer.train()
        assert trainer.save_delta() == delta  # the same again
        return delta

    assert weights(1) == weights(1) != weights(2)
