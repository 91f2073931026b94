"""Trainers of the runtime over a compiled net of the tests, and the values that they hold."""

import numpy as np

from keras_tinytrain import _runtime
from tests.runtime.net_tables import load_tables
from tests.runtime.reference import prototype_loss, softmax_loss, views_of
from tests.runtime.small_net import samples

VIEWS = ((1, 0, False), (-2, 3, False))


class Setup:
    """A net, its compiled tables, and trainers over them that hold the samples."""

    def __init__(self, net, folder):
        self.net = net
        self.tables, self.library = load_tables(net, folder)
        self.images, self.labels = samples()

    def trainer(self, add=True, share=True, flash=None, **settings):
        self.net.bound.clear()
        trainer = _runtime.Trainer(
            self.tables,
            self.net.run_trainable,
            self.net.run_frozen,
            self.net.bind,
            settings=settings,
            owner=self.library,
            share=share,
            flash=flash,
        )
        for image, label in zip(self.images, self.labels):
            if add:
                trainer.add_sample(image, label)
        return trainer

    def gradients(self, iteration=0):
        """Mean loss and mean gradients in float64 of the weights that are bound now."""
        stored = [[self.net.run_frozen(view) for view in views_of(image, self.net.views)] for image in self.images]
        net, last, count = self.net, len(self.net.tensors) - 1, len(self.images)
        embed = lambda x: net.real(last, net.forward(x)[last]).reshape(-1)
        prototypes = np.stack([np.mean([embed(s[0]) for s, l in zip(stored, self.labels) if l == k], axis=0) for k in range(3)])
        total, sums = 0.0, None
        for sample, label in zip(stored, self.labels):
            values = net.forward(sample[1 + iteration % len(net.views) if net.views else 0])
            z = net.real(last, values[last]).reshape(-1)
            loss, d_z = prototype_loss(z, prototypes, label) if net.head == "prototypes" else softmax_loss(z, label)
            total += loss
            found = net.backward(values, d_z)
            sums = (
                found
                if sums is None
                else {i: (sums[i][0] + found[i][0], None if found[i][1] is None else sums[i][1] + found[i][1]) for i in found}
            )
        return total / count, {i: (k / count, None if b is None else b / count) for i, (k, b) in sums.items()}, prototypes


def all_of(trainer, method):
    """Every trained layer's (kernel, bias) in one flat float64 array."""
    parts = [getattr(trainer, method)(i) for i in range(trainer.num_trained)]
    return np.concatenate([np.asarray(a, np.float64).reshape(-1) for pair in parts for a in pair if a is not None])


def int8_weights(trainer):
    return [(trainer.kernel(i), trainer.bias(i)) for i in range(trainer.num_trained)]


def assert_same_weights(a, b):
    for (kernel_a, bias_a), (kernel_b, bias_b) in zip(a, b):
        np.testing.assert_array_equal(kernel_a, kernel_b)
        np.testing.assert_array_equal(bias_a, bias_b)
