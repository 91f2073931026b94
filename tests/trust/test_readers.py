"""A damaged file is one error that names it, or reads as other values; it is never another kind of error, and nothing stays half done."""

import json
import os
import types

import keras
import numpy as np
import pytest
from models import small_net
from trust.mutations import inside_zip, mutations, with_crc

from keras_tinytrain.backbones.imagenet_weights import read_weights
from keras_tinytrain.backbones.small_weights import load_weights, save_weights
from keras_tinytrain.benchmark.results import FIELDS, KEY, append_results, read_results
from keras_tinytrain.data import load_folder, load_npz, load_samples
from keras_tinytrain.delta import Delta, snapshot
from keras_tinytrain.metatrain.checkpoint import restore_checkpoint, save_checkpoint
from keras_tinytrain.model import load_model
from keras_tinytrain.plan import Budget, LayerPlan, Plan

PLAN = Plan((LayerPlan("project", (1, 4)), LayerPlan("logits", (2,), kernel=False)), Budget("100KB"), "fisher")


READABLE = (
    ("memory", "null"),
    ("memory", '"12"'),
    ("memory", "1.5"),
    ("compute", "1.5"),
    ("compute", "9" * 400),
    ("layers", '"12"'),
)


def read_all(path, copies, read):
    """Read every damaged copy. Returns how many were refused."""
    refused = 0
    for data in copies:
        path.write_bytes(data)
        try:
            read(path)
        except ValueError as error:
            refused += 1
            assert path.name in str(error) and "\n\n" not in str(error), f"{error!r} for {data[:200]!r}"
    return refused


@pytest.fixture
def samples(tmp_path):
    np.savez(tmp_path / "good.npz", x=np.random.default_rng(0).random((6, 4, 4, 1), np.float32), y=np.arange(6) % 2)
    return (tmp_path / "good.npz").read_bytes()


@pytest.mark.parametrize("damage", [mutations, inside_zip])
def test_samples(tmp_path, samples, damage):
    def read(path):
        x, y = load_samples(path, (4, 4, 1))
        assert np.isfinite(x).all() and len(x) == len(y)

    assert read_all(tmp_path / "bad.npz", damage(samples, 500), read) > 200
    assert read_all(tmp_path / "bad.npz", damage(samples, 200, seed=1), load_npz) > 50


@pytest.mark.parametrize("damage", [mutations, inside_zip])
@pytest.mark.parametrize("layout", ["packed", "motion", "compressed"])
def test_other_layouts_of_samples(tmp_path, damage, layout):
    arrays = {
        "packed": {
            "images_packed": np.arange(24, dtype=np.uint8).reshape(6, 4),
            "image_hw": np.array([8, 4]),
            "class_id": np.arange(6),
        },
        "motion": {"x": np.ones((6, 5, 6)), "y": np.arange(6), "meta_json": '{"units": "g and deg/s"}'},
        "compressed": {"images": np.ones((6, 4, 4, 1), np.uint8), "labels": np.arange(6), "group": np.arange(6)},
    }[layout]
    np.savez_compressed(tmp_path / "good.npz", **arrays)
    assert read_all(tmp_path / "bad.npz", damage((tmp_path / "good.npz").read_bytes(), 200), load_npz) > 50


def test_plans(tmp_path):
    assert read_all(tmp_path / "bad.json", mutations(PLAN.to_json().encode(), 1000), Plan.load) > 500


@pytest.mark.parametrize("number", ["Infinity", "NaN", "-1", "1e400", "1.5", '"12"', "null", "[]", "9" * 400, "[" * 100_000])
def test_plans_with_odd_numbers(tmp_path, number):
    fields = json.loads(PLAN.to_json())
    for place in ("channels", "memory", "compute", "keras_tinytrain_plan", "layers"):
        text = json.dumps(fields | {"keras_tinytrain_plan": 1})
        text = {
            "channels": text.replace("[1, 4]", f"[{number}, 4]"),
            "memory": text.replace("102400", number),
            "compute": text.replace("0.15", number),
            "keras_tinytrain_plan": text.replace('plan": 1', f'plan": {number}'),
            "layers": text.replace('"project"', number),
        }[place]
        if (place, number) not in READABLE:
            assert read_all(tmp_path / "bad.json", [text.encode()], Plan.load) == 1, place


@pytest.mark.parametrize("repaired", [False, True])
def test_deltas(tmp_path, repaired):
    model = small_net()
    base = model.get_weights()
    data = Delta.between(snapshot(model, PLAN), model).to_bytes()
    copies = mutations(data, 400)

    def read(path):
        delta = Delta.load(path)
        try:
            delta.apply(model)
        except ValueError:
            same = zip(base, model.get_weights(), strict=True)
            assert all(np.array_equal(*pair) for pair in same)
            return
        if delta.previous:
            delta.revert(model)
        model.set_weights(base)

    assert read_all(tmp_path / "bad.delta", map(with_crc, copies) if repaired else copies, read) > (120 if repaired else 350)


def test_results(tmp_path):
    rows = [dict.fromkeys(KEY, number) | dict.fromkeys(FIELDS[len(KEY) :], 0.5) for number in range(4)]
    append_results(tmp_path / "good.csv", rows)

    def read(path):
        before = path.read_bytes()
        try:
            read_results(path)
        finally:
            assert path.read_bytes() == before

    assert read_all(tmp_path / "bad.csv", mutations((tmp_path / "good.csv").read_bytes(), 1000), read) > 300


@pytest.mark.parametrize("damage", [mutations, inside_zip])
def test_weights_and_checkpoints_leave_the_model_as_it_was(tmp_path, damage):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="a"), keras.layers.Dense(2, name="b")])
    save_weights(model, tmp_path / "weights.npz")
    save_checkpoint(tmp_path / "checkpoint.npz", model.variables, settings="these", steps=5)
    known = {"settings": "these", "progress": "steps", "depends_on": "recipe"}
    for name, read in {
        "weights.npz": lambda path: load_weights(model, path),
        "checkpoint.npz": lambda path: restore_checkpoint(path, model.variables, **known),
    }.items():

        def unchanged(path, read=read):
            before = model.get_weights()
            try:
                read(path)
            except ValueError:
                assert all(np.array_equal(*pair, equal_nan=True) for pair in zip(before, model.get_weights(), strict=True))
                raise

        assert read_all(tmp_path / "bad.npz", damage((tmp_path / name).read_bytes(), 250), unchanged) > 50
    read_all(tmp_path / "bad.npz", damage((tmp_path / "weights.npz").read_bytes(), 100), read_weights)


def test_models(tmp_path):
    small_net().save(tmp_path / "good.keras")
    data = (tmp_path / "good.keras").read_bytes()
    assert read_all(tmp_path / "bad.keras", mutations(data, 25), lambda path: load_model(str(path))) > 10
    read_all(tmp_path / "bad.keras", inside_zip(data, 15), lambda path: load_model(str(path)))


@pytest.fixture
def pictures(tmp_path):
    for label in "ab":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(2):
            image = np.full((8, 8, 1), 90 * number, np.uint8)
            keras.utils.save_img(tmp_path / "pictures" / label / f"{number}.png", image)
    return tmp_path / "pictures"


def test_pictures(pictures):
    good = (pictures / "b" / "0.png").read_bytes()
    read = types.SimpleNamespace(of=lambda path: load_folder(path.parents[1], size=8))
    assert read_all(pictures / "b" / "0.png", mutations(good, 25), read.of) > 10


def test_a_pipe_in_a_folder_of_pictures_is_named(pictures):
    os.mkfifo(pictures / "b" / "2.png")
    with pytest.raises(ValueError, match="2.png is no ordinary file"):
        load_folder(pictures)


def test_a_pipe_in_place_of_samples_is_named(tmp_path):
    os.mkfifo(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="x.npz is neither an .npz file nor a folder"):
        load_samples(tmp_path / "x.npz", (4, 4, 1))
