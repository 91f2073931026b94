"""Meta-Dataset's domains as tensorflow-datasets has them (pip install keras-tinytrain[domains])."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from keras_tinytrain.data.domain import Domain
from keras_tinytrain.data.resizing import resize

LEAST_OBJECT = 32  # pixels; smaller objects are left out, as in Meta-Dataset's reader of MSCOCO


@dataclasses.dataclass(frozen=True)
class Source:
    """Where one of Meta-Dataset's domains is found.

    Args:
        builder: name in tensorflow-datasets.
        split: its labelled samples. The Visual Domain Decathlon holds its test labels back.
        drawn: "" for photographs; "black" or "white" for strokes of that colour on the opposite one.
        objects: the samples are the boxes of an image, each with a label of its own.
    """

    builder: str
    split: str
    drawn: str = ""
    objects: bool = False


# Meta-Dataset without ImageNet, the paper's nine targets. tensorflow-datasets has no Fungi: use a folder. Its only traffic
# signs and aircraft are those of the Visual Domain Decathlon, shrunk to a shorter side of 72 pixels.
META_DATASET = {
    "traffic_sign": Source("visual_domain_decathlon/gtsrb", "train+validation"),
    "omniglot": Source("omniglot", "train+test", drawn="black"),
    "aircraft": Source("visual_domain_decathlon/aircraft", "train+validation"),
    "vgg_flower": Source("oxford_flowers102", "train+validation+test"),
    "cu_birds": Source("caltech_birds2011", "train+test"),
    "dtd": Source("dtd", "train+validation+test"),
    "quickdraw": Source("quickdraw_bitmap", "train", drawn="white"),
    "mscoco": Source("coco/2017", "train+validation", objects=True),
}


def load_tfds(
    name: str, *, size: int = 128, per_class: int = 100, classes: Iterable[int] | None = None, data_dir: str | None = None
) -> Domain:
    """One of Meta-Dataset's domains, downloaded where it is not there yet.

    Args:
        name: a key of META_DATASET.
        size: images are resized to size x size pixels, whatever their shape was, as Meta-Dataset does.
        per_class: the first so many samples of each class are kept; reading ends when all classes have them.
        classes: labels to keep, e.g. Meta-Dataset's test classes; None keeps all.
        data_dir: where tensorflow-datasets keeps its files; None is its default.

    Returns:
        A Domain called `name`, images float32 (N, size, size, 3), of drawings (N, size, size, 1) with ink 1, in [0, 1].

    Raises:
        ValueError: there is no such domain.
        ImportError: tensorflow-datasets is not installed.
    """
    if name not in META_DATASET:
        raise ValueError(
            f"tensorflow-datasets has {list(META_DATASET)} of Meta-Dataset's domains; others come from a folder with a "
            f"folder of images per class. Received: {name!r}"
        )
    source, tfds = META_DATASET[name], _tensorflow_datasets()
    builder = tfds.builder(source.builder, data_dir=data_dir)
    builder.download_and_prepare()
    labels = builder.info.features["objects"]["label"] if source.objects else builder.info.features["label"]
    wanted = set(range(labels.num_classes) if classes is None else map(int, classes))
    examples = builder.as_dataset(split=source.split, shuffle_files=False)
    return _collected(name, source, tfds.as_numpy(examples), wanted, size, per_class)


def _tensorflow_datasets():
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(
            "Meta-Dataset's domains need tensorflow-datasets, which is not installed: pip install keras-tinytrain[domains]"
        ) from error
    return tensorflow_datasets


def _collected(name, source, examples, wanted, size, per_class):
    counts, images, labels = dict.fromkeys(wanted, 0), [], []
    for image, label in (pair for example in examples for pair in _labelled(example, source)):
        if counts.get(label, per_class) >= per_class:
            continue
        images.append(_pixels(image, source.drawn, size))
        labels.append(label)
        counts[label] += 1
        if min(counts.values()) == per_class:
            break
    if not images:
        raise ValueError(f"Domain '{name}' has no sample of the classes {sorted(wanted)}.")
    return Domain(name, np.stack(images), np.array(labels, np.int64))


def _labelled(example, source):
    """(image, label) of an example: the whole picture, or each box of it that is large enough."""
    if not source.objects:
        return [(example["image"], int(example["label"]))]
    height, width = example["image"].shape[:2]
    found = []
    for (top, left, bottom, right), label in zip(example["objects"]["bbox"], example["objects"]["label"]):
        rows, columns = slice(round(top * height), round(bottom * height)), slice(round(left * width), round(right * width))
        if min(rows.stop - rows.start, columns.stop - columns.start) >= LEAST_OBJECT:
            found.append((example["image"][rows, columns], int(label)))
    return found


def _pixels(image, drawn, size):
    """float32 (size, size, channels) in [0, 1]; of drawings one channel, ink 1."""
    pixels = np.clip(resize(image[None], size, size)[0] / np.float32(255), 0, 1)
    if drawn:
        pixels = pixels.mean(axis=-1, keepdims=True)
    return 1 - pixels if drawn == "black" else pixels
