"""Constraints of trained weights hold in the chosen channels, and the others stay bit-identical."""

import keras
import numpy as np
import pytest

from keras_tinytrain import Budget, LayerPlan, Plan, TinyTrainCallback
from keras_tinytrain.fit._constraints import whole_only

L, C = keras.layers, keras.constraints
X = np.random.default_rng(0).normal(size=(48, 6, 6, 2)).astype(np.float32)
Y = np.arange(48) % 3
PLAN = Plan((LayerPlan("conv", (0, 2)), LayerPlan("depthwise", (1,)), LayerPlan("head", (0, 1))))


class SumOfOne(C.Constraint):
    """Divides by the sum over everything, so it mixes channels."""

    def __call__(self, w):
        return w / keras.ops.sum(keras.ops.abs(w))


def fitted(plan=PLAN, *, conv=None, bias=None, depthwise=None, head=None, package=keras):
    """(weights by name before, after) of a fit with a large learning rate."""
    layers = package.layers
    package.utils.set_random_seed(0)
    model = package.Sequential(
        [
            package.Input(X.shape[1:]),
            layers.Conv2D(4, 3, kernel_constraint=conv, bias_constraint=bias, name="conv"),
            layers.DepthwiseConv2D(3, depthwise_constraint=depthwise, name="depthwise"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, kernel_constraint=head, name="head"),
        ]
    )
    loss = package.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(package.optimizers.Adam(0.3), loss)
    before = [np.array(weight) for weight in model.weights]
    model.fit(X, Y, epochs=2, batch_size=16, callbacks=[TinyTrainCallback(plan=plan, verbose=0)], verbose=0)
    names = ["conv", "conv_bias", "depthwise", "depthwise_bias", "head", "head_bias"]
    return dict(zip(names, before)), dict(zip(names, map(np.array, model.weights)))


def norms(kernel):
    return np.sqrt(np.square(kernel).sum(axis=0))


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_constraints_hold_in_the_chosen_channels_alone(package):
    package = pytest.importorskip(package)
    c = package.constraints
    before, after = fitted(
        conv=c.MaxNorm(0.3), bias=c.NonNeg(), depthwise=c.MaxNorm(0.2), head=c.MinMaxNorm(0.1, 0.4), package=package
    )
    assert norms(after["conv"])[..., [0, 2]].max() <= 0.3 + 1e-6
    assert norms(after["depthwise"])[:, 1].max() <= 0.2 + 1e-6
    assert after["conv_bias"].min() >= 0
    assert 0.1 - 1e-5 <= norms(after["head"])[[0, 1]].min() <= norms(after["head"])[[0, 1]].max() <= 0.4 + 1e-5
    assert np.array_equal(before["conv"][..., [1, 3]], after["conv"][..., [1, 3]])
    assert np.array_equal(before["depthwise"][:, :, [0, 2, 3]], after["depthwise"][:, :, [0, 2, 3]])
    assert np.array_equal(before["head"][:, 2], after["head"][:, 2])
    assert not np.array_equal(before["conv"], after["conv"]) and norms(before["conv"])[..., [1, 3]].max() > 0.3


@pytest.mark.parametrize("constraint", [C.UnitNorm(axis=-1), SumOfOne()])
def test_constraint_that_mixes_channels_is_refused_by_name(constraint):
    with pytest.raises(
        ValueError, match=rf"The {type(constraint).__name__} of 'sequential.*/conv/kernel' computes each channel"
    ):
        fitted(conv=constraint)


def test_constraint_that_mixes_channels_holds_in_a_layer_trained_whole():
    _, after = fitted(Plan((LayerPlan("conv", (0, 1, 2, 3)),)), conv=C.UnitNorm(axis=-1))
    np.testing.assert_allclose(np.sqrt(np.square(after["conv"]).sum(axis=-1)), 1, rtol=1e-5)


def two_convolutions(constraint, package=keras):
    layers = package.layers
    model = package.Sequential(
        [
            package.Input(X.shape[1:]),
            layers.Conv2D(4, 3, activation="relu", name="first"),
            layers.SeparableConv2D(4, 3, pointwise_constraint=constraint, name="second"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, name="head", kernel_constraint=constraint),
        ]
    )
    model.compile("sgd", package.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_layer_whose_channels_are_mixed_is_no_candidate_and_is_told(package, capsys):
    package = pytest.importorskip(package)
    model, made = two_convolutions(package.constraints.UnitNorm(axis=-1), package), TinyTrainCallback(Budget(compute=0.9))
    model.fit(X, Y, batch_size=48, callbacks=[made], verbose=0)
    assert [layer.name for layer in made.plan.layers] == ["first", "head"]
    assert (
        "candidates: 1 of 4 layers; 1 depthwise, 1 whose UnitNorm mixes channels, 1 trained in any case"
        in capsys.readouterr().out
    )


def test_layer_whose_channels_are_mixed_is_trained_by_full():
    model, made = two_convolutions(C.UnitNorm(axis=-1)), TinyTrainCallback(strategy="full", verbose=0)
    model.fit(X, Y, batch_size=48, callbacks=[made], verbose=0)
    assert [layer.name for layer in made.plan.layers] == ["first", "second.depthwise", "second.pointwise", "head"]


def test_named_layer_whose_channels_are_mixed_is_refused():
    made = TinyTrainCallback(Budget(compute=40), layers=["second.pointwise"], head=None, verbose=0)
    with pytest.raises(ValueError, match="UnitNorm of .*pointwise_kernel' computes each channel"):
        two_convolutions(C.UnitNorm(axis=-1)).fit(X, Y, batch_size=48, callbacks=[made], verbose=0)


def test_model_whose_channels_are_all_mixed_trains_its_head_or_says_why():
    def fit(**options):
        model = keras.Sequential([keras.Input(X.shape[1:]), L.Conv2D(4, 3, kernel_constraint=C.UnitNorm(axis=-1), name="conv")])
        model.add(L.GlobalAveragePooling2D())
        model.add(L.Dense(3, name="head", kernel_constraint=C.UnitNorm(axis=-1)))
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        made = TinyTrainCallback(verbose=0, **options)
        model.fit(X, Y, batch_size=48, callbacks=[made], verbose=0)
        return [layer.name for layer in made.plan.layers]

    assert fit() == ["head"]
    with pytest.raises(ValueError, match="no layer to choose channels of .*2 whose UnitNorm mixes channels"):
        fit(head=None)


@pytest.mark.parametrize("constraint", [C.MaxNorm(1.0), C.NonNeg(), None])
def test_constraint_within_a_channel_leaves_its_layer_a_candidate(constraint):
    assert whole_only(two_convolutions(constraint), ["first", "second.depthwise", "second.pointwise", "head"]) == {}
