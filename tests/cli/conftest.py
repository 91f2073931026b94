"""A model, its backbone and a task in a folder, for the commands."""

import keras
import numpy as np
import pytest
from models import labelled_images, tiny_net


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """model.keras (a classifier of 5 classes), backbone.keras (embeddings) and task.npz."""
    folder = tmp_path_factory.mktemp("cli")
    model = tiny_net()
    model.save(folder / "model.keras")
    keras.Model(model.input, model.get_layer("pool").output).save(folder / "backbone.keras")
    x, y = labelled_images(model, per_class=4, classes=5)
    np.savez(folder / "task.npz", x=x, y=y)
    return folder
