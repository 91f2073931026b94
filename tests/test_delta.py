"""Deltas: saved, loaded, applied and reverted bit for bit; refused where they do not belong or were altered."""

import keras
import numpy as np
import pytest
from models import batch, small_net

from keras_tinytrain.delta import ChannelValues, Delta, model_hash, snapshot
from keras_tinytrain.plan import LayerPlan, Plan

PLAN = Plan((LayerPlan("project", (1, 4)), LayerPlan("depthwise", (0, 2, 5)), LayerPlan("logits", (2,))))


@pytest.fixture
def learned():
    """(trained model, its delta)."""
    model = small_net()
    before = snapshot(model, PLAN)
    rng = np.random.default_rng(0)
    for name, channels in (("project", [1, 4]), ("depthwise", [0, 2, 5]), ("logits", [2])):
        layer = model.get_layer(name)
        kernel = np.array(layer.kernel)
        index = (slice(None), slice(None), channels) if name == "depthwise" else (..., channels)
        kernel[index] += rng.normal(size=kernel[index].shape)
        layer.kernel.assign(kernel)
        bias = np.array(layer.bias)
        bias[channels] += 1
        layer.bias.assign(bias)
    return model, Delta.between(before, model)


def test_a_saved_delta_makes_a_fresh_model_answer_the_same(learned, tmp_path):
    model, delta = learned
    num_bytes = delta.save(tmp_path / "task.delta")
    assert num_bytes == (tmp_path / "task.delta").stat().st_size
    fresh = small_net()
    Delta.load(tmp_path / "task.delta").apply(fresh)
    assert np.array_equal(fresh(batch()[0]), model(batch()[0]))


def test_revert_undoes_apply_bit_for_bit(learned, tmp_path):
    model, delta = learned
    delta.save(tmp_path / "task.delta")
    Delta.load(tmp_path / "task.delta").revert(model)
    for weight, original in zip(model.weights, small_net().weights, strict=True):
        assert np.array_equal(weight, original)


def test_another_model_is_refused_and_left_alone(learned):
    _, delta = learned
    other = small_net(seed=1)
    before = other.get_weights()
    with pytest.raises(ValueError, match="was learned on base model"):
        delta.apply(other)
    with pytest.raises(ValueError, match="does not hold this delta's values"):
        delta.revert(other)
    assert all(np.array_equal(a, b) for a, b in zip(before, other.get_weights()))


def test_every_cut_and_every_altered_byte_is_refused(learned):
    data = learned[1].to_bytes()
    for length in range(len(data)):
        with pytest.raises(ValueError, match="cut short|not a delta"):
            Delta.from_bytes(data[:length])
    for position in range(0, len(data), 7):
        altered = bytearray(data)
        altered[position] ^= 0x10
        with pytest.raises(ValueError):
            Delta.from_bytes(bytes(altered))


def test_the_error_names_the_file(learned, tmp_path):
    (tmp_path / "bad.delta").write_bytes(learned[1].to_bytes()[:-1])
    with pytest.raises(ValueError, match="bad.delta: a delta that was cut short"):
        Delta.load(tmp_path / "bad.delta")


def test_device_values_survive_the_file_but_are_not_written_into_keras():
    record = ChannelValues("project", (1, 4), np.array([[1, -2], [3, 127]], np.int8), np.array([5, -6], np.int32))
    delta = Delta(model_hash(small_net()), (record,), sequence=3)
    again = Delta.from_bytes(delta.to_bytes())
    assert again.sequence == 3 and again.records[0].channels == (1, 4)
    assert np.array_equal(again.records[0].values, record.values) and again.records[0].values.dtype == np.int8
    assert np.array_equal(again.records[0].biases, record.biases)
    with pytest.raises(ValueError, match="int8 values of a device"):
        again.apply(small_net())
    with pytest.raises(ValueError, match="does not hold the base model's values"):
        again.revert(small_net())


def test_the_hash_does_not_depend_on_automatic_names():
    def unnamed():
        keras.utils.set_random_seed(0)
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])

    assert model_hash(unnamed()) == model_hash(unnamed())
    assert model_hash(small_net()) != model_hash(small_net(seed=1))
