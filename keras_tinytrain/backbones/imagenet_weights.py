"""Weights of the ImageNet backbones: where they are looked for, and how they are read."""

import hashlib
import os
import pathlib

import keras
import numpy as np

from keras_tinytrain._npz import opened_npz, write_npz
from keras_tinytrain.backbones.safe_pickle import load_pickle

# Public int8 weights with BatchNorm folded, MIT licence, (c) 2022 MIT HAN Lab.
_URL = (
    "https://raw.githubusercontent.com/mit-han-lab/tiny-training/7bf8e05bbeebda76cbf2ea2dd596dedee7e3f343/"
    "algorithm/assets/mcu_models/{}.pkl"
)
_SHA256 = {
    "mcunet-5fps": "4de2e06ed39041fc3609de806461a9e1d1f82f186927474bd9e9b0de756a0f00",
    "mbv2-w0.35": "310d2871c50a89af9f11928e28418729984c2e402cf68560a19b6cbb75854163",
    "proxyless-w0.3": "0da06d029506a36e5a5d0822493cdae11f37ba78662f9aca25ba5b3c958cf8e1",
}
_OWN_LAYERS = {"mix"}  # layers that the public weights lack


def preprocess_input(images: np.ndarray) -> np.ndarray:
    """Pixels 0..255 (N, height, width, 3) RGB to the inputs of the ImageNet backbones: (pixel - 128) / 127.5, float32."""
    return (np.asarray(images, np.float32) - 128) / np.float32(127.5)


def load_pretrained(model: keras.Model, name: str, weights: str | os.PathLike | None) -> keras.Model:
    """Set the weights of a backbone, and return it.

    Args:
        model: as `imagenet_network` builds it.
        name: of the public file: "mcunet-5fps", "mbv2-w0.35" or "proxyless-w0.3".
        weights: None changes nothing. "imagenet" looks for `<name>.npz`, then `<name>.pkl`, in the folder
            KERAS_TINYTRAIN_HOME and in Keras' cache (~/.keras/keras_tinytrain), then downloads the public .pkl into the latter;
            a .pkl must have the pinned sha256. Otherwise the path of an .npz with arrays "<layer>.kernel_f32" and
            "<layer>.bias_f32" in Keras' layout, or of a .pkl as published.

    Raises:
        ValueError: the file is damaged, asks for more than tensors, or does not fit the model.
        OSError: there is no such file, or it cannot be downloaded.
    """
    if weights is None:
        return model
    path = find_weights(name) if weights == "imagenet" else pathlib.Path(weights)
    _set_weights(model, read_weights(path), path)
    return model


def save_pretrained(backbone: keras.Model, path: str | os.PathLike) -> None:
    """Write the .npz that `load_pretrained` reads."""
    arrays = {
        f"{layer.name}.{role}_f32": np.asarray(getattr(layer, role))
        for layer in backbone.layers
        if layer.weights
        for role in ("kernel", "bias")
    }
    write_npz(path, arrays, compressed=True)


def find_weights(name: str) -> pathlib.Path:
    """The file with the ImageNet weights `name`, downloaded if need be. Raises OSError where it cannot be had."""
    homes = [pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "keras_tinytrain"]
    if os.environ.get("KERAS_TINYTRAIN_HOME"):
        homes.insert(0, pathlib.Path(os.environ["KERAS_TINYTRAIN_HOME"]))
    for path in (home / f"{name}{suffix}" for home in homes for suffix in (".npz", ".pkl")):
        if path.is_file():
            return _checked(path, name)
    return _download(name, homes)


def read_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """{"<layer>.kernel_f32" or "<layer>.bias_f32": float32 array in Keras' layout} from an .npz or a published .pkl."""
    path = pathlib.Path(path)
    if path.suffix == ".pkl":
        network = load_pickle(path)
        try:
            return _from_network(network)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not hold a network of tiny-training: {error!r}") from error
    with opened_npz(path, "an .npz of weights") as arrays:
        return {key: arrays[key] for key in arrays if key.endswith(("kernel_f32", "bias_f32"))}


def _checked(path, name):
    """`path`, whose bytes are the published ones if it is a .pkl."""
    if path.suffix == ".pkl" and hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256[name]:
        raise ValueError(f"{path} is not the published file, whose sha256 is {_SHA256[name]}. Delete it to download it anew.")
    return path


def _download(name, homes):
    try:
        path = keras.utils.get_file(
            f"{name}.pkl", _URL.format(name), file_hash=_SHA256[name], hash_algorithm="sha256", cache_subdir="keras_tinytrain"
        )
    except Exception as error:  # Keras raises a bare Exception where the network does not answer
        raise OSError(
            f"The ImageNet weights {name} are not in {' or '.join(map(str, homes))} and cannot be downloaded ({error}). Put "
            f"{name}.pkl or {name}.npz into the folder that KERAS_TINYTRAIN_HOME names, or pass weights=None or weights=<path>."
        ) from error
    return pathlib.Path(path)


def _from_network(network):
    """kernel = int8 * w_scale and bias = int32 * w_scale * x_scale, per output channel."""
    layers = {"stem": network["first_conv"], "mix": network.get("feature_mix"), "classifier": network["classifier"]}
    for index, block in enumerate(network["blocks"]):
        for role, short in (("pointwise1", "pw1"), ("depthwise", "dw"), ("pointwise2", "pw2")):
            layers[f"b{index}.{short}"] = block[role]
    arrays = {}
    for name, layer in layers.items():
        if layer is not None:
            arrays[f"{name}.kernel_f32"], arrays[f"{name}.bias_f32"] = _dequantized(layer)
    return arrays


def _dequantized(layer):
    """(kernel, bias) float32, kernel (height, width, input, output), or (height, width, channels, 1) of a depthwise layer."""
    parameters = {key: np.asarray(value, np.float64) for key, value in layer["params"].items() if value is not None}
    scales = parameters["w_scales"].reshape(-1)
    num_channels = len(parameters["weight"])
    if {scales.size, parameters["bias"].size} != {num_channels} or parameters["x_scale"].size != 1:
        raise ValueError(f"a layer of {num_channels} channels has {scales.size} scales and {parameters['bias'].size} biases")
    kernel = parameters["weight"] * scales[:, None, None, None]
    bias = parameters["bias"].reshape(-1) * scales * parameters["x_scale"].reshape(-1)
    order = (2, 3, 0, 1) if layer["groups"] > 1 else (2, 3, 1, 0)
    return kernel.transpose(order).astype(np.float32), bias.astype(np.float32)


def _set_weights(model, arrays, path):
    for layer in model.layers:
        if not layer.weights or (layer.name in _OWN_LAYERS and f"{layer.name}.kernel_f32" not in arrays):
            continue
        for variable, role in ((layer.kernel, "kernel_f32"), (layer.bias, "bias_f32")):
            variable.assign(_fitting(arrays, f"{layer.name}.{role}", variable.shape, path))


def _fitting(arrays, key, shape, path):
    """The array `key`, whose shape may differ from `shape` in leading axes of 1 (a classifier is stored as a convolution)."""
    if key not in arrays:
        raise ValueError(f"{path} has no array '{key}', which the model needs.")
    stored = arrays[key].shape
    if stored != tuple(shape) and stored != (1,) * (len(stored) - len(shape)) + tuple(shape):
        raise ValueError(f"'{key}' in {path} has shape {stored}, the model needs {tuple(shape)}.")
    if arrays[key].dtype.kind not in "biuf":
        raise ValueError(f"'{key}' in {path} holds {arrays[key].dtype}, numbers are needed.")
    return arrays[key].reshape(shape)
