"""A closed-form head on the device: equal to float64 for the same int8 rows, promised to the byte, saved, reverted and refined."""

import dataclasses

import keras
import numpy as np
import pytest
from models import images, labelled_images, pooled_net, separable_net, sequence_net, tiny_net

from keras_tinytrain.delta import ChannelValues, Delta
from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.export.backward.graph import STORED_SAMPLE
from keras_tinytrain.fewshot.ridge import RIDGE, normalised
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import EdgeRuntime, HostRuntime, classifier_from_device
from keras_tinytrain.run.from_device import _grid_of_a_row
from keras_tinytrain.run.nor_flash import PowerCut

WAYS, SHOTS = 3, 4
UNIT = 2.0**-30  # of a scale


def backbone():
    net = tiny_net()
    return keras.Model(net.input, net.get_layer("pool").output, name="backbone")


CASES = {  # model, trained channels, features, share of the original network
    "all_maps_before_the_trained_layer": (backbone, {"b3_conv": (1, 4)}, "flash", 0.0),
    "trained_before_the_maps": (backbone, {"b2_expand": (0, 1), "b3_conv": (1, 4)}, "ram", 0.5),
    "one_map": (separable_net, {"s3_pointwise": (0, 1, 5)}, "ram", 0.5),
    "no_frozen_part": (pooled_net, {"first": (0, 5), "hidden": (1, 7)}, "flash", 0.25),
    "of_time": (sequence_net, {"second": (1, 2, 4, 5)}, "ram", 0.0),
}


def export(out, model, trained, features="ram", average=0.5, head="ridge", **options):
    plan = Plan(tuple(LayerPlan(name, channels) for name, channels in trained.items()))
    training = TrainingSettings(num_classes=WAYS, max_samples=WAYS * SHOTS, iterations=2, learning_rate=0.3, average=average)
    return export_tflm(
        model, plan, calibration=images(model, 8), out=out, head=head, training=training, features=features, **options
    )


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    build, *options = CASES[request.param]
    model = build()
    bundle = export(tmp_path_factory.mktemp("closed_form") / request.param, model, *options)
    return bundle, *labelled_images(model, per_class=SHOTS, classes=WAYS)


@pytest.fixture
def host(case):
    bundle, x, y = case
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    return host


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The bundle of one case without a closed-form head."""
    build, trained, features, average = CASES["trained_before_the_maps"]
    return export(tmp_path_factory.mktemp("plain") / "bundle", build(), trained, features, average, head="prototypes")


def rows_of(host):
    return np.stack([host.trainer.row(sample) for sample in range(host.trainer.num_samples)]).astype(np.float64)


def reference(rows, labels, parts):
    """(centre, W) in float64."""
    centre = np.maximum(np.floor(rows.mean(axis=0) + 0.5), -127)
    z = normalised(rows, centre, parts)
    weights = np.linalg.solve(z @ z.T + RIDGE * np.eye(len(z)), np.eye(WAYS)[labels] - 1 / WAYS)
    return centre, (z.T @ weights).T


def left_out_one_by_one(rows, labels, parts):
    """Scores of each sample by a solution for the others around their mean, in float64."""
    scores = np.empty((len(rows), WAYS))
    for i in range(len(rows)):
        rest = np.arange(len(rows)) != i
        z = normalised(rows, rows[rest].mean(axis=0), parts)
        weights = np.linalg.solve(z[rest] @ z[rest].T + RIDGE * np.eye(len(rows) - 1), np.eye(WAYS)[labels[rest]] - 1 / WAYS)
        scores[i] = z[i] @ z[rest].T @ weights
    return scores


def pooled(values, tensor):
    """Means of a map [height][width][channels] over at most 3 x 3 equal windows, rounded half up; -127 and above."""
    axes = []
    for size in (tensor.height, tensor.width):
        stride = max(1, size // 3)
        window = max(1, size - 2 * stride)
        axes.append([slice(start, start + window) for start in range(0, size - window + 1, stride)])
    values = values.reshape(tensor.height, tensor.width, tensor.channels).astype(np.float64)
    means = [values[rows, columns].mean(axis=(0, 1)) for rows in axes[0] for columns in axes[1]]
    return np.maximum(np.floor(np.concatenate(means) + 0.5), -127)


def test_solution_equals_float64_for_the_same_rows(case, host):
    bundle, _, y = case
    left_out = host.solve()
    values, scales = host.trainer.closed_form()
    parts = bundle.manifest["closed_form"]["parts"]
    centre, weights = reference(rows_of(host), y, parts)
    np.testing.assert_allclose(left_out, left_out_one_by_one(rows_of(host), y, parts), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(values[-1], centre)
    assert scales[-1] * UNIT == 1
    steps = np.abs(weights).max(axis=1, keepdims=True) / 127
    np.testing.assert_allclose(scales[:-1, None] * UNIT, steps, rtol=1e-5)
    assert np.abs(values[:-1] * (scales[:-1, None] * UNIT) - weights).max() <= 0.501 * steps.max()


def test_a_sample_beside_copies_of_one_is_left_out(case):
    """Around the mean of the others every length is 0, which rounding must not fill with a direction."""
    bundle, x, _ = case
    x, y = np.concatenate([np.repeat(x[:1], 5, axis=0), x[-1:]]), np.array([0, 1, 2, 0, 1, 2])
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    left_out = host.solve()
    parts = bundle.manifest["closed_form"]["parts"]
    np.testing.assert_allclose(left_out, left_out_one_by_one(rows_of(host), y, parts), rtol=1e-5, atol=1e-6)


def test_rows_are_pooled_maps_and_the_embedding(case, host):
    host.solve()
    tables = host._tables
    tensors = tables.array(tables.tables.tensors, "Tensor", tables.tables.num_tensors)
    maps = tables.array(tables._maps.tensors, "std::int32_t", tables._maps.num_maps)
    outputs = {**dict(enumerate(host._trainable(host.trainer.stored_sample(3)))), STORED_SAMPLE: host.trainer.stored_sample(3)}
    parts = [pooled(outputs[tensors[index].kept], tensors[index]) for index in maps]
    embedding = np.maximum(outputs[tables.tables.head_output].reshape(-1), -127)
    np.testing.assert_array_equal(host.trainer.row(3), np.concatenate([*parts, embedding]))


def test_promised_bytes_are_used_to_the_byte(case, host):
    host.solve()
    assert host.bytes_used() == case[0].promised_bytes
    assert case[0].promised_bytes["sram"]["closed_form"] > 0


def test_answers_are_those_of_the_solution(case, host):
    bundle, x, _ = case
    host.solve()
    parts, rows = bundle.manifest["closed_form"]["parts"], rows_of(host)
    values, scales = host.trainer.closed_form()
    expected = 10 * normalised(rows, values[-1], parts) @ (values[:-1] * (scales[:-1, None] * UNIT)).T
    np.testing.assert_allclose(host.predict(x), expected, rtol=1e-4, atol=1e-4)
    assert host.trainer.closed_form_answers


def test_training_ends_with_a_solution_for_both_networks(case, host):
    bundle, x, _ = case
    host.solve()
    before, original = host.predict(x), host.trainer.closed_form()
    host.train()
    average = bundle.manifest["training"]["average"]
    if average:
        np.testing.assert_array_equal(host.trainer.closed_form(original=True)[0], original[0])
    assert not np.array_equal(host.trainer.closed_form()[0], original[0])
    parts, rows, (values, scales) = bundle.manifest["closed_form"]["parts"], rows_of(host), host.trainer.closed_form()
    adapted = 10 * normalised(rows, values[-1], parts) @ (values[:-1] * (scales[:-1, None] * UNIT)).T
    np.testing.assert_allclose(host.predict(x), (1 - average) * adapted + average * before, rtol=1e-3, atol=1e-3)


def test_solution_is_saved_reverted_and_loaded(case, host, tmp_path):
    bundle, x, _ = case
    host.solve()
    solved, expected = host.trainer.save_delta(), host.predict(x)
    host.save_to_flash()
    host.train()
    host.save_to_flash()
    assert host.trainer.is_saved(host.slots)
    host.undo()
    np.testing.assert_array_equal(host.predict(x), expected)
    host.revert()
    assert not host.trainer.closed_form_answers and host.trainer.is_as_exported
    with pytest.raises(RuntimeError):
        host.predict(x)
    host.load_from_flash()
    np.testing.assert_array_equal(host.predict(x), expected)
    other = HostRuntime(bundle)
    (tmp_path / "solved.ttd").write_bytes(solved)
    other.load_delta(tmp_path / "solved.ttd")
    np.testing.assert_array_equal(other.predict(x), expected)
    assert other.trainer.save_delta() == solved == Delta.from_bytes(solved).to_bytes()
    host.factory()
    assert host.trainer.is_as_exported and host.trainer.is_saved(host.slots)


def test_delta_comes_back_to_keras(case, host):
    bundle, x, _ = case
    host.train()
    tables = host._tables
    delta = Delta.from_bytes(host.trainer.save_delta())
    model = CASES[bundle.path.name][0]()
    learned = classifier_from_device(model, bundle, delta)
    scales, zero_points = _grid_of_a_row(tables)
    rows, (values, units) = rows_of(host), host.trainer.closed_form()
    parts = bundle.manifest["closed_form"]["parts"]
    expected = 10 * normalised(rows, values[-1], parts) @ (values[:-1] * (units[:-1, None] * UNIT)).T
    np.testing.assert_allclose(learned._head.logits((scales * (rows - zero_points)).astype(np.float32)), expected, atol=1e-3)
    assert np.abs(learned.logits(x) - host.predict(x)).mean() < 0.8  # of logits from -10 to 10: activations in int8
    assert np.mean(learned.predict(x) == host.predict(x).argmax(axis=1)) > 0.9


def test_linux_board_solves_the_same(case, host):
    bundle, x, y = case
    pytest.importorskip("ai_edge_litert")
    edge = EdgeRuntime(bundle)
    edge.add_samples(x, y)
    np.testing.assert_allclose(edge.solve(), host.solve(), atol=0.05)
    np.testing.assert_allclose(edge.predict(x), host.predict(x), atol=0.5)


def test_a_power_cut_leaves_the_solution_before_or_after(case, host):
    """As tests/runtime/test_slots.py, which cuts at every byte."""
    host.solve()
    host.save_to_flash()
    first = host.trainer.save_delta()
    host.train()
    assert not host.trainer.is_saved(host.slots)
    second, content = host.trainer.save_delta(), host.slots.data.copy()
    host.save_to_flash()
    written = host.slots.data.copy()
    for num_bytes in (0, 1, 700, 4096, 4100, 4096 + len(second) - 1):
        host.slots.data[:] = content
        host.slots.cut_power_after(num_bytes)
        with pytest.raises(PowerCut):
            host.save_to_flash()
        host.slots.power_on()
        is_written = np.array_equal(host.slots.data, written)  # where half of the last byte is all that it needs
        host.load_from_flash()
        assert host.trainer.save_delta() == (second if is_written else first)
        host.trainer.load_delta(second)


def test_deltas_of_bundles_with_and_without_the_head(plain, tmp_path):
    build, *options = CASES["trained_before_the_maps"]
    model = build()
    x, y = labelled_images(model, per_class=SHOTS, classes=WAYS)
    ridge = HostRuntime(export(tmp_path / "ridge", model, *options))
    host = HostRuntime(plain)
    assert (plain.head, ridge.bundle.head) == ("prototypes", "ridge") and ", head ridge, " in repr(ridge.bundle)
    assert len(repr(plain)) < 200 + len(str(plain.path)) and str(plain.path) in repr(plain)
    readmes = [(bundle.path / "README.md").read_text() for bundle in (plain, ridge.bundle)]
    assert "\nHead: prototypes. It learns 12 samples in about" in readmes[0] and "\nHead: ridge" in readmes[1]
    assert ridge.bundle.manifest["base_hash"] == plain.manifest["base_hash"]
    assert host.head == ridge.head == "none"
    host.add_samples(x, y)
    host.train()
    assert host.head == "prototypes"
    ridge.trainer.load_delta(host.trainer.save_delta())  # prototypes answer
    np.testing.assert_array_equal(ridge.predict(x), host.predict(x))
    assert ridge.head == "prototypes"
    ridge.add_samples(x, y)
    ridge.solve()
    assert ridge.head == "ridge"
    ridge.save_delta(tmp_path / "ridge.delta")
    with pytest.raises(ValueError, match="base model or plan"):
        host.trainer.load_delta(ridge.trainer.save_delta())
    with pytest.raises(ValueError, match="holds the head 'ridge', .* has 'prototypes' alone: export .* head='ridge'"):
        host.load_delta(tmp_path / "ridge.delta")


def changed(record, **fields):
    return dataclasses.replace(record, **fields)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: changed(r, biases=np.where(np.arange(len(r.biases)) == 1, 0, r.biases).astype(np.int32)),
        lambda r: changed(r, biases=-r.biases),
        lambda r: changed(r, biases=np.full_like(r.biases, 7)),
        lambda r: changed(r, biases=None),
        lambda r: changed(r, values=r.values[:, 1:]),
        lambda r: changed(r, channels=r.channels[1:], values=r.values[1:], biases=r.biases[1:]),
        lambda r: changed(r, values=r.values.astype(np.float32), biases=r.biases.astype(np.float32)),
        lambda r: changed(r, name="rigde"),
    ],
)
def test_a_record_that_does_not_fit_changes_nothing(change, tmp_path_factory):
    host = _ready(tmp_path_factory)
    host.solve()
    good = Delta.from_bytes(host.trainer.save_delta())
    records = tuple(change(record) if record.name == "ridge" else record for record in good.records)
    with pytest.raises(ValueError):
        host.trainer.load_delta(dataclasses.replace(good, records=records).to_bytes())
    assert host.trainer.save_delta() == good.to_bytes()


_HOSTS: list[HostRuntime] = []


def _ready(tmp_path_factory):
    """A host with samples, made once."""
    if not _HOSTS:
        build, *options = CASES["of_time"]
        model = build()
        _HOSTS.append(HostRuntime(export(tmp_path_factory.mktemp("ready") / "bundle", model, *options)))
        _HOSTS[0].add_samples(*labelled_images(model, per_class=SHOTS, classes=WAYS))
    return _HOSTS[0]


def test_where_there_is_nothing_to_solve_it_is_said(case, plain):
    bundle, x, y = case
    host = HostRuntime(plain)
    with pytest.raises(RuntimeError, match='head="ridge"'):
        host.solve()
    host = HostRuntime(bundle)
    host.add_samples(x[y == 1], y[y == 1])
    with pytest.raises(RuntimeError, match="every class needs a stored sample"):
        host.solve()


def test_a_record_keeps_its_kind():
    record = ChannelValues("ridge", (0, 1), np.ones((2, 3), np.int8), np.array([5, 2**30], np.int32))
    assert Delta.from_bytes(Delta(bytes(32), (record,)).to_bytes()).records[0].biases.tolist() == [5, 2**30]


def test_nothing_is_trained_where_the_solution_is_enough(case):
    """`TRAIN` solves first. Random labels are not learned by the solution alone, and then it trains."""
    bundle, x, y = case
    host = HostRuntime(bundle, settings={"only_if_needed": True})
    host.add_samples(x, y)
    is_enough = (host.solve().argmax(axis=1) == y).all()
    assert len(host.train()) == (0 if is_enough else 2)
    solved = HostRuntime(bundle)
    solved.add_samples(x, y)
    if is_enough:
        solved.solve()
    else:
        solved.train()
    assert bytes(host.trainer.save_delta(0)) == bytes(solved.trainer.save_delta(0))
    host.clear_samples()
    host.revert()
    host.add_samples(x, np.random.default_rng(0).permutation(y))
    assert len(host.train()) == 2
