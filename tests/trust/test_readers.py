"""A damaged file is one error that names it, or reads as other values; it is never another kind of error, and nothing stays half done."""

import io
import json
import os
import pickle
import struct
import tracemalloc
import types
import zipfile
import zlib

import keras
import numpy as np
import pytest
from models import small_net
from trust.mutations import inside_zip, mutations, with_crc
from trust.trials import SEED, trials

from keras_tinytrain.backbones.imagenet_weights import read_weights
from keras_tinytrain.backbones.safe_pickle import load_pickle
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


@pytest.fixture
def refused(tried):
    def read_all(kind, path, copies, read):
        """Read every damaged copy. Returns the share that was refused."""
        count = number = 0
        for data in copies:
            number += 1
            path.write_bytes(data)
            try:
                read(path)
            except ValueError as error:
                count += 1
                assert path.name in str(error) and "\n\n" not in str(error), f"{error!r} for {data[:200]!r}"
        tried(f"damaged {kind}", number, count)
        return count / number

    return read_all


@pytest.fixture
def samples(tmp_path):
    np.savez(tmp_path / "good.npz", x=np.random.default_rng(0).random((6, 4, 4, 1), np.float32), y=np.arange(6) % 2)
    return (tmp_path / "good.npz").read_bytes()


@pytest.mark.parametrize("damage", [mutations, inside_zip])
def test_samples(tmp_path, samples, damage, refused):
    def read(path):
        x, y = load_samples(path, (4, 4, 1))
        assert np.isfinite(x).all() and len(x) == len(y)

    assert refused("npz of samples", tmp_path / "bad.npz", damage(samples, trials(500), SEED), read) > 0.4
    assert refused("npz of samples", tmp_path / "bad.npz", damage(samples, 200, seed=1), load_npz) > 0.25


@pytest.mark.parametrize("damage", [mutations, inside_zip])
@pytest.mark.parametrize("layout", ["packed", "motion", "compressed"])
def test_other_layouts_of_samples(tmp_path, damage, layout, refused):
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
    copies = damage((tmp_path / "good.npz").read_bytes(), 200)
    assert refused("npz of samples", tmp_path / "bad.npz", copies, load_npz) > 0.25


def bomb(declared, *, packed=True):
    """An .npz of samples and of weights that say that they have so many bytes; `packed`: they do, compressed."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, size in {"x": declared, "stem.kernel_f32": declared, "y": 2}.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
                member.write(bytes(2))
                for _ in range(size >> 24 if packed else 0):
                    member.write(bytes(1 << 24))
    return content.getvalue()


BOMBS = {"packed": bomb(2**27 + 2**24), "declared": bomb(2**40, packed=False), "overflowing": bomb(2**63 - 1, packed=False)}


@pytest.mark.parametrize("case", BOMBS)
@pytest.mark.parametrize("read", [load_npz, lambda path: load_samples(path, (4, 4, 1)), read_weights])
def test_an_npz_that_unpacks_to_far_more_than_it_holds_is_refused(tmp_path, case, read, refused):
    tracemalloc.start()
    assert refused("npz bomb", tmp_path / "bad.npz", [BOMBS[case]], read) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


def test_an_npz_that_compresses_well_is_read(tmp_path):
    np.savez_compressed(tmp_path / "black.npz", x=np.zeros((64, 128, 128, 1), np.uint8), y=np.arange(64) % 2)
    assert len(load_npz(tmp_path / "black.npz").images) == 64


def test_plans(tmp_path, refused):
    assert refused("plan", tmp_path / "bad.json", mutations(PLAN.to_json().encode(), trials(1000), SEED), Plan.load) > 0.5


@pytest.mark.parametrize("number", ["Infinity", "NaN", "-1", "1e400", "1.5", '"12"', "null", "[]", "9" * 400, "[" * 100_000])
def test_plans_with_odd_numbers(tmp_path, number, refused):
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
            assert refused("plan", tmp_path / "bad.json", [text.encode()], Plan.load) == 1, place


@pytest.mark.parametrize("repaired", [False, True])
def test_deltas(tmp_path, repaired, refused):
    model = small_net()
    base = model.get_weights()
    data = Delta.between(snapshot(model, PLAN), model).to_bytes()
    copies = mutations(data, trials(400), SEED)

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

    share = refused("delta", tmp_path / "bad.delta", map(with_crc, copies) if repaired else copies, read)
    assert share > (0.3 if repaired else 0.875)


def test_results(tmp_path, refused):
    rows = [dict.fromkeys(KEY, number) | dict.fromkeys(FIELDS[len(KEY) :], 0.5) for number in range(4)]
    append_results(tmp_path / "good.csv", rows)

    def read(path):
        before = path.read_bytes()
        try:
            read_results(path)
        finally:
            assert path.read_bytes() == before

    copies = mutations((tmp_path / "good.csv").read_bytes(), 1000, SEED)
    assert refused("CSV of results", tmp_path / "bad.csv", copies, read) > 0.3


@pytest.mark.parametrize("damage", [mutations, inside_zip])
def test_weights_and_checkpoints_leave_the_model_as_it_was(tmp_path, damage, refused):
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

        copies = damage((tmp_path / name).read_bytes(), trials(250), SEED)
        assert refused(name.replace(".", " as "), tmp_path / "bad.npz", copies, unchanged) > 0.2
    refused("weights as npz", tmp_path / "bad.npz", damage((tmp_path / "weights.npz").read_bytes(), 100), read_weights)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickles(tmp_path, protocol, refused):
    arrays = {"kernel": np.ones((3, 2), np.float32), "names": ["a", ("b", 1.5, None)], "bias": np.arange(4)}
    copies = mutations(pickle.dumps(arrays, protocol=protocol), trials(300), SEED)
    assert refused("pickle", tmp_path / "bad.pkl", copies, load_pickle) > 0.4


def test_models(tmp_path, refused):
    small_net().save(tmp_path / "good.keras")
    data = (tmp_path / "good.keras").read_bytes()
    assert refused(".keras", tmp_path / "bad.keras", mutations(data, 25, SEED), lambda path: load_model(str(path))) > 0.4
    refused(".keras", tmp_path / "bad.keras", inside_zip(data, 15, SEED), lambda path: load_model(str(path)))


@pytest.fixture
def pictures(tmp_path):
    for label in "ab":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(2):
            image = np.full((8, 8, 1), 90 * number, np.uint8)
            keras.utils.save_img(tmp_path / "pictures" / label / f"{number}.png", image)
    return tmp_path / "pictures"


def test_pictures(pictures, refused):
    good = (pictures / "b" / "0.png").read_bytes()
    read = types.SimpleNamespace(of=lambda path: load_folder(path.parents[1], size=8))
    assert refused("picture", pictures / "b" / "0.png", mutations(good, 25, SEED), read.of) > 0.4


def png(width, height):
    """A PNG that says that it is so large, and holds a row."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [60_000, 2**31 - 1])
@pytest.mark.parametrize("suffix", ["png", "bmp", "gif"])
def test_a_picture_that_says_that_it_is_huge_is_named(pictures, size, suffix, refused):
    width = size.to_bytes(4, "little")
    bad = {
        "png": png(size, size),
        "bmp": b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0" + width + width + b"\1\0\x18\0" + bytes(24),
        "gif": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2\x44\1\0;",
    }[suffix]
    path = pictures / "b" / f"huge.{suffix}"
    assert refused("picture", path, [bad], lambda path: load_folder(path.parents[1], size=8)) == 1


def test_a_pipe_in_a_folder_of_pictures_is_named(pictures):
    os.mkfifo(pictures / "b" / "2.png")
    with pytest.raises(ValueError, match="2.png is no ordinary file"):
        load_folder(pictures)


def test_a_pipe_in_place_of_samples_is_named(tmp_path):
    os.mkfifo(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="x.npz is neither an .npz file nor a folder"):
        load_samples(tmp_path / "x.npz", (4, 4, 1))
