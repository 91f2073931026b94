"""The reference models of MLPerf Tiny (mlcommons/tiny), as files that a user has: none of them is part of this package."""

import functools
import pathlib
import tarfile
import tempfile
from collections.abc import Callable

import keras

from keras_tinytrain.model import load_model

FILES = {
    "mlperf_image_classification": ("resnet8.h5", "MLPerf Tiny: ResNet-8, CIFAR-10 (Keras 2, .h5)"),
    "mlperf_person_detection": ("vww_96.h5", "MLPerf Tiny: MobileNetV1 0.25, visual wake words (Keras 2, .h5)"),
    "mlperf_keyword_spotting": ("kws_saved_model.tar.gz", "MLPerf Tiny: DS-CNN, 12 keywords (Keras 2, SavedModel)"),
    "mlperf_streaming_wakeword": ("str_ww.h5", "MLPerf Tiny: streaming wake word (Keras 2, .h5)"),
    "mlperf_anomaly_detection": ("ad01.h5", "MLPerf Tiny: dense autoencoder (Keras 2, .h5)"),
}


def networks_in(folder: str) -> dict[str, Callable[[], keras.Model]]:
    """{name: function} of the files that `folder` holds; {} without a folder."""
    found = {name: pathlib.Path(folder, file) for name, (file, _) in FILES.items()} if folder else {}
    return {name: _described(path, FILES[name][1]) for name, path in found.items() if path.exists()}


def _described(path, text):
    build = functools.partial(_load, path)
    build.__doc__ = text
    return build


def _load(path):
    if path.suffix != ".gz":
        return load_model(path)
    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder, tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
        (saved,) = pathlib.Path(folder).rglob("saved_model.pb")
        return load_model(saved.parent)
