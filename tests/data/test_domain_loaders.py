"""Domains from tensorflow-datasets (its mock data, no download), from folders, and by one name."""

import numpy as np
import pytest
from PIL import Image

from keras_tinytrain.data import load_domain, load_folder, tfds

tensorflow_datasets = pytest.importorskip("tensorflow_datasets", reason="pip install keras-tinytrain[domains]")


@pytest.fixture
def mocked():
    """tensorflow-datasets' mock data: random pictures and labels, with the shapes of the real ones."""
    with tensorflow_datasets.testing.mock_data(num_examples=30):
        yield


@pytest.mark.parametrize("name", sorted(set(tfds.META_DATASET) - {"mscoco"}))
def test_meta_dataset(mocked, name):
    domain = tfds.load_tfds(name, size=16)
    assert domain.name == name and domain.images.dtype == np.float32
    assert domain.images.shape == (30, 16, 16, 1 if name in ("omniglot", "quickdraw") else 3)
    assert 0 <= domain.images.min() < domain.images.max() <= 1
    assert domain.num_classes > 5


def test_objects_of_a_picture(mocked, monkeypatch):
    monkeypatch.setattr(tfds, "LEAST_OBJECT", 1)  # the mock's pictures are small
    domain = tfds.load_tfds("mscoco", size=16)
    assert domain.images.shape[1:] == (16, 16, 3) and len(domain.images) > 0 and domain.labels.max() < 80


def test_boxes_are_cut_out_and_small_ones_left():
    image = np.zeros((100, 200, 3), np.uint8)
    image[10:60, 20:120] = 255
    boxes = np.float32([[0.1, 0.1, 0.6, 0.6], [0, 0, 0.3, 0.9]])
    example = {"image": image, "objects": {"bbox": boxes, "label": np.int64([7, 8])}}
    [(crop, label)] = tfds._labelled(example, tfds.META_DATASET["mscoco"])
    assert label == 7 and crop.shape == (50, 100, 3) and crop.min() == 255


def test_classes_and_number_of_samples(mocked):
    everything = tfds.load_tfds("dtd", size=4)
    values, counts = np.unique(everything.labels, return_counts=True)
    most = int(values[np.argmax(counts)])
    some = tfds.load_tfds("dtd", size=4, per_class=1, classes=[most, int(values[0])])
    assert sorted(some.labels.tolist()) == sorted({most, int(values[0])})
    first = np.flatnonzero(everything.labels == most)[0]
    np.testing.assert_array_equal(some.images[some.labels == most][0], everything.images[first])


def test_ink_is_one_whatever_its_colour():
    picture = np.full((4, 4, 3), 255, np.uint8)
    picture[1, 1] = 0
    assert tfds._pixels(picture, "black", 4)[..., 0].sum() == 1 and tfds._pixels(255 - picture, "white", 4)[1, 1, 0] == 1
    assert tfds._pixels(picture, "", 4)[1, 1].tolist() == [0, 0, 0]


def test_missing_library_or_domain_is_named(monkeypatch):
    with pytest.raises(ValueError, match=r"has \['traffic_sign'.* others come from a folder.* Received: 'fungi'"):
        tfds.load_tfds("fungi")
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"pip install keras-tinytrain\[domains\]"):
        tfds.load_tfds("dtd")


@pytest.fixture
def folder(tmp_path):
    for label, name in enumerate(("apple", "pear")):
        (tmp_path / "fruit" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (6, 5), (200 * label, 100, 0)).save(tmp_path / "fruit" / name / f"{number}.png")
    return tmp_path / "fruit"


def test_folder(folder):
    domain = load_folder(folder, size=8)
    assert domain.name == "fruit" and domain.images.shape == (4, 8, 8, 3) and domain.labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(domain.images[2, 3, 3], np.float32([200, 100, 0]) / 255, rtol=1e-6)
    drawings = load_folder(folder, size=8, drawings=True)
    assert drawings.images.shape == (4, 8, 8, 1) and drawings.images[0].mean() > drawings.images[2].mean()


def test_folder_without_classes(tmp_path):
    with pytest.raises(ValueError, match="at least two. Received: 0"):
        load_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_folder(tmp_path / "nowhere")


def test_one_name_for_all(folder, tmp_path, mocked):
    np.savez(tmp_path / "d.npz", images=np.zeros((2, 5, 5, 3), np.uint8), labels=np.arange(2))
    assert load_domain(str(tmp_path / "d.npz")).images.shape == (2, 5, 5, 3)
    assert load_domain(str(folder)).images.shape == (4, 128, 128, 3)
    assert load_domain(f"drawings:{folder}", size=9).images.shape == (4, 9, 9, 1)
    assert load_domain("tfds:dtd", size=4).name == "dtd" and load_domain("digits", size=8).name == "digits"


def test_a_name_that_stands_for_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no domain 'digit': expected an .npz file, .* or digits"):
        load_domain("even:digit")
    (tmp_path / "notes.txt").write_text("no pictures")
    with pytest.raises(ValueError, match="notes.txt is neither an .npz file nor a folder of class folders"):
        load_domain(str(tmp_path / "notes.txt"))
