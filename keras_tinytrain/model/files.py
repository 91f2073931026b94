"""Load a Keras model from a file, whoever wrote it: Keras 3, Keras 2 and tf_keras; .keras, .h5 and SavedModel."""

import io
import json
import os
import pathlib
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

import h5py
import keras

from keras_tinytrain._npz import remark_on_cut
from keras_tinytrain._text import keras_reason
from keras_tinytrain.model._keras2_graph import keras3_model
from keras_tinytrain.model._keras2_layers import NO_LAMBDA
from keras_tinytrain.model._keras2_saved_model import load_saved_model
from keras_tinytrain.model._keras2_weights import load_h5_weights, load_keras_weights


def load_model(path: str | os.PathLike, *, custom_objects: Mapping[str, Any] | None = None) -> keras.Model:
    """The Keras 3 model in a file, not compiled.

    A file of Keras 2 or tf_keras is read without either: its configuration is translated layer by layer. A SavedModel holds
    a Keras model only where Keras 2 or tf_keras saved it. No Python code in the file is run.

    Args:
        path: a .keras or .h5 file of a whole model, or the folder of a SavedModel.
        custom_objects: {name in the file: class or function} of layers of your own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no model, damaged, or holds a layer that is not known here; with the layer's name and the remedy.

    Example:
        >>> model = load_model("keras_model.h5")  # as Teachable Machine exports it
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is not a model that Keras can load: there is no such file.")
    try:
        with keras.saving.custom_object_scope(dict(custom_objects or {})):
            return _reader_of(path)(path)
    except Exception as error:  # a damaged file makes Keras, zipfile, h5py and json fail in many ways
        raise ValueError(f"{path} cannot be loaded: {_reason(error)}") from error


def _reader_of(path):
    if path.is_dir():
        return _saved_model
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if "config.json" in names:
            return _keras_file
        arrays = all(name.endswith(".npy") for name in names)
        raise ValueError("it is an .npz file of arrays, such as samples." if arrays else "it is an archive: unpack it.")
    if h5py.is_hdf5(path):
        return _h5_file
    if tarfile.is_tarfile(path):
        raise ValueError("it is an archive: unpack it, and give the .keras or .h5 file or the folder in it.")
    begins = path.read_bytes()[:8]
    if begins[4:] == b"TFL3":
        raise ValueError("a .tflite file cannot be trained. Give the Keras model that it was converted from.")
    raise ValueError(
        f"it is no model, which would be a .keras or .h5 file, or the folder of a SavedModel.{remark_on_cut(path)}"
    )


def _keras_file(path):
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        version = json.loads(archive.read("metadata.json"))["keras_version"]
        if not _is_keras2(version):
            return _by_keras_itself(path, version)
        model = keras3_model(config["class_name"], config["config"])
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            load_keras_weights(model, config["config"], weights)
    return model


def _h5_file(path):
    with h5py.File(path) as file:
        if "model_config" not in file.attrs:
            raise ValueError(
                "it holds weights without a model. Build the model, call model.load_weights(...) and save it with "
                'model.save("model.keras").'
            )
        version = file.attrs.get("keras_version", "2")
        if not _is_keras2(version):
            return _by_keras_itself(path, version)
        config = json.loads(file.attrs["model_config"])
        model = keras3_model(config["class_name"], config["config"])
        load_h5_weights(model, file["model_weights"])
    return model


def _saved_model(path):
    if not (path / "saved_model.pb").exists():
        raise ValueError("a folder is expected to be a SavedModel, with a file saved_model.pb; this one has none.")
    return load_saved_model(path)


def _by_keras_itself(path, version):
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # see above
        newer = _numbers(version) > _numbers(keras.__version__)
        hint = f" It was written by Keras {version}, this is {keras.__version__}: pip install -U keras." if newer else ""
        reason = _reason(error)
        raise ValueError(f"{reason.rstrip('.')}.{hint}" if hint else reason) from error


def _is_keras2(version):
    return _numbers(version)[0] < 3


def _numbers(version):
    """The first two numbers of a version such as "3.15.1"."""
    return [int(number) for number in (version.decode() if isinstance(version, bytes) else version).split(".")[:2]]


def _reason(error):
    reason = keras_reason(error)
    if "Lambda" in reason and "safe" in reason:
        return NO_LAMBDA
    if ("Could not locate" in reason or "Unknown layer" in reason) and "--custom" not in reason:
        return (
            f"{reason.split('. ')[0]}. If it is a class of your own, name it: `custom_objects={{'Name': Name}}` (on the command line: "
            "--custom module:Name)."
        )
    return reason
