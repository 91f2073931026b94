"""Domains: layouts, value range, resizing, and the digits of scikit-learn."""

import sys

import numpy as np
import pytest

from keras_tinytrain.data import Domain, every_second_class, load_digits, load_domain, load_npz, resize, seen_by_camera


def test_packed_bits(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (3, 5, 7)).astype(np.uint8)
    path = tmp_path / "glyphs.npz"
    np.savez(path, images_packed=np.packbits(bits.reshape(3, -1), axis=1), image_hw=[5, 7], class_id=np.int16([4, 4, 9]))
    domain = load_npz(path, size=None)
    assert domain.name == "glyphs" and domain.num_classes == 2 and domain.labels.dtype == np.int64
    np.testing.assert_array_equal(domain.images[..., 0], bits)
    assert domain.images.dtype == np.float32


def test_uint8_images_with_groups(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3)).astype(np.uint8)
    np.savez(tmp_path / "signs.npz", images=images, labels=np.int16([0, 0, 1, 1]), group=np.int32([5, 6, 7, 8]))
    domain = load_npz(tmp_path / "signs.npz", size=None)
    np.testing.assert_array_equal(domain.images, images / np.float32(255))
    np.testing.assert_array_equal(domain.groups, [5, 6, 7, 8])
    assert load_npz(tmp_path / "signs.npz", size=3).images.shape == (4, 3, 3, 3)


def test_one_group_for_all_is_none(tmp_path):
    np.savez(
        tmp_path / "signs.npz", images=np.zeros((4, 6, 6, 3), np.uint8), labels=np.arange(4) % 2, group=np.zeros(4, np.int32)
    )
    assert load_npz(tmp_path / "signs.npz").groups is None


def test_file_without_images_is_named(tmp_path):
    np.savez(tmp_path / "sensor.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match=r"sensor.npz needs arrays x \(or images\) and y .* It holds \['x'\]"):
        load_npz(tmp_path / "sensor.npz")


@pytest.mark.parametrize("white", [255.0, np.nan])
def test_floats_beyond_0_to_1_are_no_images(tmp_path, white):
    np.savez(tmp_path / "signs.npz", images=np.full((2, 4, 4, 3), white, np.float32), labels=np.arange(2))
    with pytest.raises(ValueError, match=r"signs.npz: images are uint8 pixels, or numbers in \[0, 1\]. Received: float32 from"):
        load_npz(tmp_path / "signs.npz")


def test_a_damaged_file_is_named(tmp_path):
    np.savez(tmp_path / "signs.npz", images=np.zeros((2, 4, 4, 3), np.uint8), labels=np.arange(2))
    content = bytearray((tmp_path / "signs.npz").read_bytes())
    content[200] ^= 255
    (tmp_path / "signs.npz").write_bytes(content)
    with pytest.raises(ValueError, match="signs.npz is damaged"):
        load_npz(tmp_path / "signs.npz")


def test_downsizing_by_two_is_a_triangle_filter():
    row = np.random.default_rng(0).random(8)
    small = resize(row.reshape(1, 1, 8, 1), 1, 4)[0, 0, :, 0]
    expected = (row[1] + 3 * row[2] + 3 * row[3] + row[4]) / 8
    assert small[1] == pytest.approx(expected, rel=1e-6)


def test_digits():
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install keras-tinytrain[demo]")
    domain = load_digits()
    assert domain.images.shape == (1797, 32, 32, 1) and domain.images.dtype == np.float32 and domain.num_classes == 10
    assert domain.images.min() == 0 and 0.9 < domain.images.max() <= 1
    np.testing.assert_allclose(domain.images.mean(), 4.884 / 16, rtol=1e-3)


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "keras-tinytrain\[demo\]"'):
        load_digits()


def test_mismatched_arrays():
    with pytest.raises(ValueError, match="Domain 'x' expects"):
        Domain("x", np.zeros((3, 4, 4, 1), np.float32), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="3 labels but groups"):
        Domain("x", np.zeros((3, 4, 4, 1), np.float32), np.zeros(3, np.int64), np.zeros(2, np.int64))


def test_real_domains(shared_data):
    omniglot = load_npz(shared_data / "omniglot" / "omniglot_evaluation_dev.npz")
    assert omniglot.images.shape == (6920, 32, 32, 1) and omniglot.num_classes == 346
    assert 0.03 < omniglot.images.mean() < 0.12  # thin ink on an empty background
    signs = load_npz(shared_data / "domains" / "traffic_sign_gtsrb_dev.npz", size=None)
    assert signs.images.shape == (880, 64, 64, 3) and signs.groups is not None


def test_every_second_class(tmp_path):
    images, labels = np.zeros((8, 6, 6, 3), np.uint8), np.int16([3, 3, 5, 5, 7, 7, 9, 9])
    np.savez(tmp_path / "signs.npz", images=images, labels=labels, group=np.arange(8))
    domain = load_domain(str(tmp_path / "signs.npz"))
    even, odd = (load_domain(f"{which}:{tmp_path / 'signs.npz'}") for which in ("even", "odd"))
    assert even.labels.tolist() == [3, 3, 7, 7] and odd.labels.tolist() == [5, 5, 9, 9] and odd.groups.tolist() == [2, 3, 6, 7]
    assert odd.name == "signs (odd classes)" and every_second_class(domain, "all") is domain


def test_camera_darkens_one_corner_and_is_the_same_on_every_call():
    paper = Domain("paper", np.zeros((200, 8, 8, 1), np.float32), np.arange(200))
    seen = seen_by_camera(paper)
    assert seen.name == "paper by camera" and seen.images.dtype == np.float32
    np.testing.assert_array_equal(seen.images, seen_by_camera(paper).images)
    np.testing.assert_allclose(255 * seen.images, np.round(255 * seen.images), atol=1e-4)
    corners = seen.images[:, [0, 7], [0, 7], 0]
    assert corners[:, 1].mean() == pytest.approx(1 - 0.5, abs=0.05) and corners[:, 1].std() == pytest.approx(0.2, abs=0.03)
    assert corners[:, 0].mean() < 0.15  # half of the noise is whiter than white, and clipped
