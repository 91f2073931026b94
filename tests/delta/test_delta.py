"""Deltas: saved, loaded, applied and reverted bit for bit; refused if they belong to another model or were altered."""

import dataclasses
import zlib

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import batch, small_net

from keras_tinytrain import _runtime
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
        kernel = layer.kernel.numpy()
        index = (slice(None), slice(None), channels) if name == "depthwise" else (..., channels)
        kernel[index] += rng.normal(size=kernel[index].shape)
        layer.kernel.assign(kernel)
        bias = layer.bias.numpy()
        bias[channels] += 1
        layer.bias.assign(bias)
    return model, Delta.between(before, model)


def test_saved_delta_makes_a_fresh_model_answer_the_same(learned, tmp_path):
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


def test_a_delta_is_printed_in_one_line(learned):
    delta = learned[1]
    held = "project 2, depthwise 3, logits 1"
    assert str(delta) == f"<Delta of base model {delta.base_hash.hex()[:12]}, sequence 0; channels: {held}>"


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


def test_error_names_the_damaged_file(learned, tmp_path):
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


def test_model_hash_does_not_depend_on_automatic_names():
    def unnamed():
        keras.utils.set_random_seed(0)
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])

    assert model_hash(unnamed()) == model_hash(unnamed())
    assert model_hash(small_net()) != model_hash(small_net(seed=1))


def test_later_of_two_deltas_wins_per_channel():
    earlier, later = made(project=((1, 4), 10), depthwise=((0,), 20), sequence=8), made(logits=((2,), 40), project=((0, 4), 30))
    merged = Delta.merge(earlier, later)
    assert [(r.name, r.channels) for r in merged.records] == [("project", (0, 1, 4)), ("depthwise", (0,)), ("logits", (2,))]
    assert merged.records[0].values[:, 0].tolist() == [30, 10, 31] and merged.records[0].biases.tolist() == [30, 10, 31]
    assert merged.sequence == later.sequence == 0
    assert Delta.from_bytes(merged.to_bytes()).to_bytes() == merged.to_bytes()
    assert earlier.merge(earlier).records[0].values.tobytes() == earlier.records[0].values.tobytes()


def test_diff_holds_only_new_values(learned):
    earlier = made(project=((0, 1), 10), logits=((2,), 5))
    later = made(project=((1, 4), 11), logits=((2,), 5), depthwise=((3,), 1))
    diff = earlier.diff(later)  # project 1 has its values already, and so has all of logits
    assert [(r.name, r.channels) for r in diff.records] == [("project", (4,)), ("depthwise", (3,))]
    assert earlier.merge(diff).to_bytes() == earlier.merge(later).to_bytes()
    assert learned[1].diff(learned[1]).records == ()
    assert learned[1].merge(learned[1].diff(learned[1])).to_bytes() == learned[1].to_bytes()


def test_merged_delta_is_applied_and_reverted(learned):
    model, delta = learned
    before = small_net()
    half = Delta.between(snapshot(before, Plan(PLAN.layers[:1])), model)
    rest = Delta.between(snapshot(before, Plan(PLAN.layers[1:])), model)
    merged = half.merge(rest)
    assert merged.to_bytes() == delta.to_bytes()
    merged.apply(before)
    assert np.array_equal(before(batch()[0]), model(batch()[0]))
    merged.revert(before)
    for weight, original in zip(before.weights, small_net().weights, strict=True):
        assert np.array_equal(weight, original)


def test_deltas_that_do_not_belong_together_are_not_merged(learned):
    delta = made(project=((0,), 1))
    with pytest.raises(ValueError, match="different base models, 000102030405 and"):
        delta.merge(dataclasses.replace(delta, base_hash=bytes(32)))
    with pytest.raises(ValueError, match="'project' has values of another kind"):
        delta.diff(dataclasses.replace(delta, records=(ChannelValues("project", (0,), np.ones((1, 3), np.float32), None),)))
    with pytest.raises(ValueError, match="Only one of these deltas holds the base model's values"):
        dataclasses.replace(delta, base_hash=learned[1].base_hash).merge(learned[1])
    with pytest.raises(ValueError, match="two records of one layer"):
        delta.merge(dataclasses.replace(delta, records=delta.records * 2))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_host_and_device_merge_to_the_same_bytes(data):
    earlier, later = data.draw(deltas()), data.draw(deltas())
    if bool(earlier.previous) != bool(later.previous) and earlier.records and later.records:
        for combine in (_runtime.merge_deltas, _runtime.diff_deltas):
            with pytest.raises(ValueError, match="another base model or plan"):
                combine(earlier.to_bytes(), later.to_bytes())
        return
    a, b = earlier.to_bytes(), later.to_bytes()
    assert _runtime.merge_deltas(a, b) == earlier.merge(later).to_bytes()
    assert _runtime.diff_deltas(a, b) == earlier.diff(later).to_bytes()
    assert _runtime.merge_deltas(a, _runtime.diff_deltas(a, b)) == _runtime.merge_deltas(a, b)


def test_device_refuses_the_deltas_that_the_host_refuses(learned):
    delta = made(project=((0,), 1))
    other = dataclasses.replace(delta, records=(ChannelValues("project", (0,), np.ones((1, 3), np.float32), None),))
    for later, message in (
        (dataclasses.replace(delta, base_hash=bytes(32)).to_bytes(), "another base model"),
        (other.to_bytes(), "another base model or plan"),
        (dataclasses.replace(delta, records=delta.records * 2).to_bytes(), "not a delta"),
        (delta.to_bytes()[:-1], "cut short"),
    ):
        for combine in (_runtime.merge_deltas, _runtime.diff_deltas):
            with pytest.raises(ValueError, match=message):
                combine(delta.to_bytes(), later)


def made(*, sequence=0, base_hash=bytes(range(32)), **layers):
    """A device's delta: {layer: (channels, value of the first one)}."""
    records = []
    for name, (channels, first) in layers.items():
        column = np.arange(first, first + len(channels))
        values = np.repeat(column[:, None], 5, axis=1).astype(np.int8)
        records.append(ChannelValues(name, channels, values, column.astype(np.int32)))
    return Delta(base_hash, tuple(records), sequence=sequence)


@st.composite
def deltas(draw):
    """Records of up to four layers, two of them int8, of one kind of values each; all with previous values, or none."""
    kinds = {"a": ("i1", 3, True), "b": ("f4", 2, False), "c": ("f4", 1, True), "long name, \u00e9": ("i1", 40, False)}
    names = draw(st.permutations(list(kinds)).map(lambda order: order[: len(order) - draw(st.integers(0, 4))]))
    with_previous, records, previous = draw(st.booleans()), [], []
    for name in names:
        dtype, width, has_bias = kinds[name]
        channels = tuple(sorted(draw(st.sets(st.integers(0, 9), min_size=1))))
        rng = np.random.default_rng(draw(st.integers(0, 1)))  # few seeds: equal values in both deltas, too
        rows = rng.integers(-9, 9, (10, width)).astype(dtype)[list(channels)]
        biases = np.arange(10).astype("<f4" if dtype == "f4" else "<i4")[list(channels)] if has_bias else None
        records.append(ChannelValues(name, channels, rows, biases))
        previous.append(ChannelValues(name, channels, rows + 1, biases))
    sequence = draw(st.integers(0, 2**32 - 1))
    return Delta(bytes(range(32)), tuple(records), tuple(previous) if with_previous else (), sequence)


def unfit(record):
    """{what is wrong: records of which a later one does not fit}."""
    first = dataclasses.replace(record, values=record.values + 1)
    other = dataclasses.replace(
        record, name="logits", channels=(2,), values=np.ones((1, 9999), np.float32), biases=record.biases[:1]
    )
    return {
        "no layer 'nosuch'": (first, dataclasses.replace(record, name="nosuch")),
        "takes values of shape": (first, other),
        "with biases. Received: .* no biases": (first, dataclasses.replace(other, values=other.values[:, :8], biases=None)),
        "channels; expected some of them.*999": (dataclasses.replace(record, channels=(1, 999)),),
        "ascending, each once": (dataclasses.replace(record, channels=(4, 4)),),
        "two records of one layer": (first, first),
        "'project' are NaN or infinite": (first, dataclasses.replace(record, values=record.values * np.nan)),
        "channels are trained in": (first, dataclasses.replace(record, name="relu")),
    }


@pytest.mark.parametrize(
    "message", unfit(ChannelValues("project", (1, 4), np.ones((2, 8), np.float32), np.ones(2, np.float32)))
)
def test_a_delta_of_which_one_record_does_not_fit_changes_nothing(learned, message):
    model = small_net()
    base, record = model.get_weights(), learned[1].records[0]
    with pytest.raises(ValueError, match=message):
        Delta(model_hash(model), unfit(record)[message]).apply(model)
    assert all(map(np.array_equal, base, model.get_weights()))


def test_an_interrupted_apply_changes_nothing(learned, monkeypatch):
    model = small_net()
    base, assign, calls = model.get_weights(), type(model.weights[0]).assign, []

    def interrupted(variable, value):
        calls.append(variable)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return assign(variable, value)

    monkeypatch.setattr(type(model.weights[0]), "assign", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learned[1].apply(model)
    monkeypatch.undo()
    assert len(calls) > 3 and all(map(np.array_equal, base, model.get_weights()))


def test_a_training_that_ended_in_nan_can_be_reverted(tmp_path):
    model = small_net()
    base, before = model.get_weights(), snapshot(model, PLAN)
    model.get_layer("project").kernel.assign(np.full(model.get_layer("project").kernel.shape, np.nan))
    Delta.between(before, model).save(tmp_path / "nan.delta")
    delta = Delta.load(tmp_path / "nan.delta")
    with pytest.raises(ValueError, match="'project' are NaN or infinite"):
        delta.apply(small_net())
    delta.revert(model)
    kernel = np.moveaxis(model.get_layer("project").kernel.numpy(), -1, 0)
    assert np.array_equal(kernel[[1, 4]], np.moveaxis(small_net().get_layer("project").kernel.numpy(), -1, 0)[[1, 4]])
    assert len(base) == len(model.get_weights())


def test_bytes_after_the_last_record_are_refused(learned):
    data = learned[1].to_bytes()
    longer = bytearray(data[:-4] + bytes(3))
    longer[12:16] = (len(longer) + 4).to_bytes(4, "little")
    with pytest.raises(ValueError, match="3 bytes after its last record"):
        Delta.from_bytes(bytes(longer) + zlib.crc32(longer).to_bytes(4, "little"))


def test_a_channel_beyond_the_format_is_refused():
    values = np.zeros((1, 2), np.float32)
    with pytest.raises(ValueError, match="has a channel 65536; a delta holds channels up to 65535"):
        Delta(bytes(32), (ChannelValues("wide", (65536,), values, None),)).to_bytes()
