"""The C++ chooses what to train: scores against float64, the choice against Python's, within every budget."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest

from keras_tinytrain import _runtime
from keras_tinytrain.choose import filling
from tests.runtime.net_tables import load_tables
from tests.runtime.reference import Reference, prototype_loss, softmax_loss
from tests.runtime.small_net import samples, small_net
from tests.runtime.test_memory import align16, promised_parts

LOTS = 1 << 16  # of bytes
CRITERIA = {
    "kPotential": lambda p, w, m: p,
    "kPerWeight": lambda p, w, m: p / w,
    "kPerMac": lambda p, w, m: p / m,
    "kPerWeightAndMac": lambda p, w, m: p / (w * m),
}
CASES = {
    "whole": {"candidates": ("kPerWeightAndMac", 10**6)},
    "by_channel": {"candidates": ("kPotential", 10**6), "by_channel": 3},
    "softmax": {"candidates": ("kPerWeight", 10**6), "head": "softmax"},
    "picking": {"candidates": ("kPerMac", 10**6), "picking": True},
}


class Adaptive:
    """A net whose tables list candidates, and trainers over them that hold the samples."""

    def __init__(self, net, folder):
        self.net = net
        self.tables, self.library = load_tables(net, folder)
        self.images, self.labels = samples()

    def trainer(self, *, add=True, arena_bytes=LOTS, scratch_bytes=LOTS, **options):
        self.net.bound.clear()
        trainer = _runtime.Trainer(
            self.tables,
            self.net.run_trainable,
            self.net.run_frozen,
            self.net.bind,
            owner=self.library,
            arena_bytes=arena_bytes,
            scratch_bytes=scratch_bytes,
            **options,
        )
        for image, label in zip(self.images, self.labels):
            if add:
                trainer.add_sample(image, label)
        return trainer

    @functools.cached_property
    def fisher(self):
        """{layer: Delta} in float64, with the weights in flash."""
        self.net.bound.clear()
        reference = Reference(self.net, self.images, self.labels)
        embeddings = np.stack([reference.embed(views[0])[1] for views in reference.stored])
        prototypes = reference.prototypes(embeddings)
        view = 1 if self.net.views else 0
        sums = {}
        for label, views in zip(self.labels, reference.stored):
            values, z = reference.embed(views[view])
            d_z = (prototype_loss(z, prototypes, label) if self.net.head == "prototypes" else softmax_loss(z, label))[1]
            for index, products in self.net.fisher_products(values, d_z).items():
                sums[index] = sums.get(index, 0) + products**2
        return {index: sums[index] / (2 * len(self.labels)) for index in self.net.trained}

    def macs(self, index):
        layer = self.net.layers[index]
        if layer.kernel is None:
            return 0
        return int(np.prod(self.net.tensors[layer.output].shape)) * self.weights(index) // self.size(index)

    def weights(self, index):
        return self.net.layers[index].kernel.size

    def size(self, index):
        return self.net.tensors[self.net.layers[index].output].shape[2]

    def backward_macs(self, choice):
        """As the header of tinytrain/backward/backward.h says."""
        own = sum(self.macs(i) * count // self.size(i) for i, count in choice.items())
        return own + sum(self.macs(i) for i in range(min(choice) + 1, len(self.net.layers)))

    def parts(self, choice):
        """As the header of tinytrain/memory/memory.h says, and 256 + 64 bytes a candidate for the plan."""
        trained = {i: list(range(count)) for i, count in choice.items()}
        parts = promised_parts(dataclasses.replace(self.net, trained=trained), "sgd")
        listed = 2 * sum(choice.values()) or 4 * sum(map(self.size, self.net.trained))
        plan = 256 + align16(64 * len(self.net.trained)) + align16(listed)
        return {**parts, "plan": plan, "state": parts["state"] + plan, "total": parts["total"] + plan}

    def choose(self, arena_bytes, scratch_bytes, macs):
        """{layer: channels} by the rules of keras_tinytrain.selection, in float64."""
        delta = self.fisher
        most = max(map(self.weights, delta)), max(map(self.macs, delta))
        criterion = CRITERIA[self.net.candidates[0]]
        scores = {i: criterion(delta[i].sum(), self.weights(i) / most[0], self.macs(i) / most[1]) for i in delta}

        def fits(choice):
            parts = self.parts(choice)
            return parts["state"] <= arena_bytes and parts["scratch"] <= scratch_bytes and self.backward_macs(choice) <= macs

        order = sorted(delta, key=lambda i: (-scores[i], i))
        counts = filling.fill_by_layer(order, {i: self.size(i) for i in delta}, fits, scores=scores)
        return {f"layer_{i}": sorted(np.argsort(-delta[i], kind="stable")[:n].tolist()) for i, n in sorted(counts.items())}


@pytest.fixture(scope="module", params=[*CASES, "views"])
def adaptive(request, tmp_path_factory):
    net = small_net(**CASES.get(request.param, CASES["whole"]))
    if request.param == "views":
        net = dataclasses.replace(net, views=((1, 0, False), (-2, 3, True)), bound={})
    return Adaptive(net, tmp_path_factory.mktemp("adaptive"))


def trained(trainer):
    return {name: channels.tolist() for name, channels in trainer.trained().items()}


def test_scores_equal_float64(adaptive):
    scores = adaptive.trainer().score()
    for found, expected in zip(scores, adaptive.fisher.values(), strict=True):
        assert expected.max() > 0
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_choice_equals_pythons_in_every_budget(adaptive):
    least = adaptive.parts({})
    rooms = [int(least["state"] + extra) // 16 * 16 for extra in (100, 400, 900, 2000)]
    scratches = [int(least["scratch"] + extra) // 16 * 16 for extra in (0, 128, 4000)]
    most = adaptive.backward_macs({i: adaptive.size(i) for i in adaptive.net.trained})
    seen = set()
    for room, scratch, macs in itertools.product(rooms, scratches, (most // 50, most // 8, most // 2, most)):
        expected = adaptive.choose(room, scratch, macs)
        trainer = adaptive.trainer(arena_bytes=room, scratch_bytes=scratch)
        if not expected:
            with pytest.raises(ValueError, match="the budget is too small to train one channel"):
                trainer.select(0, macs)
            continue
        trainer.select(0, macs)
        assert trained(trainer) == expected
        parts = trainer.memory_parts()
        assert parts == adaptive.parts({int(name[6:]): len(channels) for name, channels in expected.items()})
        assert parts["state"] <= room and parts["scratch"] <= scratch
        seen.add(str(expected))
    assert len(seen) > 5


def test_budget_at_run_time_is_the_same_as_a_smaller_arena(adaptive):
    least = adaptive.parts({})["state"]
    for room in (least + 400, least + 1600):
        smaller, budgeted = adaptive.trainer(arena_bytes=room // 16 * 16), adaptive.trainer()
        smaller.select()
        budgeted.select(arena_bytes=room // 16 * 16)
        assert trained(smaller) == trained(budgeted)


def test_training_equals_that_of_a_plan_decided_at_export(adaptive, tmp_path):
    trainer = adaptive.trainer()
    trainer.select(adaptive.parts({})["state"] // 16 * 16 + 1600)
    chosen = {int(name[6:]): channels for name, channels in trained(trainer).items()}
    assert chosen != adaptive.net.trained
    losses = [trainer.step() for _ in range(3)]
    delta = trainer.save_delta() if adaptive.net.head == "softmax" else (trainer.update_prototypes(), trainer.save_delta())[1]
    fixed = Adaptive(dataclasses.replace(adaptive.net, candidates=(), trained=chosen, bound={}), tmp_path)
    other = fixed.trainer(arena_bytes=0, scratch_bytes=0)
    assert [other.step() for _ in range(3)] == losses
    other.update_prototypes()
    assert other.save_delta() == delta


def test_train_chooses_once_for_each_task(adaptive):
    trainer, heard = adaptive.trainer(), []
    with pytest.raises(RuntimeError, match="nothing was chosen to be trained"):
        trainer.step()
    trainer.train(lambda i, loss: heard.append(i))
    first = trained(trainer)
    assert first and heard == [0, 1, 2]
    trainer.train()  # goes on with what it has
    assert trained(trainer) == first and trainer.iteration == 6
    trainer.clear_samples()
    for image, label in zip(adaptive.images[::-1], adaptive.labels):
        trainer.add_sample(image, label)
    trainer.train()
    assert trainer.iteration == 3  # anew, for other samples


def test_delta_brings_its_plan_along(adaptive):
    learned = adaptive.trainer()
    learned.train()
    delta, plan = learned.save_delta(), trained(learned)
    answers = [learned.predict(image) for image in adaptive.images]
    fresh = adaptive.trainer(add=False)
    fresh.load_delta(delta)
    assert trained(fresh) == plan and fresh.save_delta() == delta
    for image, (_, logits) in zip(adaptive.images, answers):
        np.testing.assert_array_equal(fresh.predict(image)[1], logits)
    busy = adaptive.trainer()
    busy.select(adaptive.parts({})["state"] // 16 * 16 + 400)
    busy.load_delta(delta)  # another plan than its own
    assert busy.save_delta() == delta


def test_delta_without_room_for_it_changes_nothing(adaptive):
    learned = adaptive.trainer()
    learned.train()
    delta = learned.save_delta()
    small = adaptive.trainer(arena_bytes=adaptive.parts({})["state"] // 16 * 16 + 400)
    small.train()
    before = small.save_delta()
    with pytest.raises(ValueError, match="the arena is smaller"):
        small.load_delta(delta)
    assert small.save_delta() == before
    with pytest.raises(ValueError, match="altered"):
        small.load_delta(delta[:-1] + bytes([delta[-1] ^ 1]))
    assert small.save_delta() == before


def test_selection_works_in_one_arena_without_the_models_scratch(adaptive):
    parts = adaptive.parts({})
    trainer = adaptive.trainer(share=False, arena_bytes=parts["total"] // 16 * 16 + 3200)
    trainer.train()
    assert trainer.memory_parts()["total"] <= trainer.arena.nbytes
    other = adaptive.trainer(share=False, arena_bytes=LOTS, settings={"iterations": 1})
    other.load_delta(trainer.save_delta())
    assert other.save_delta() == trainer.save_delta()
