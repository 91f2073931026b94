"""A bundle of the operators that the stand-in has, samples, and what the host's run of them gives."""

import dataclasses

import keras
import pytest
from keras import layers
from models import images, labelled_images

from keras_tinytrain.export import TrainingSettings, board, export_tflm
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime

WAYS, SHOTS = 3, 2


def few_operators_net(seed=0):
    """(N, 8, 8, 3) -> (N, 5) embeddings."""
    keras.utils.set_random_seed(seed)
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu6", name="stem")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    x = layers.Conv2D(4, 1, activation="relu", name="pointwise")(x)
    x = layers.Dense(5, name="embedding")(layers.Flatten(name="flatten")(x))
    return keras.Model(image, x, name="few_operators_net")


def wide_depthwise_bundle(out, kernels):
    """Exported for kernels of that name: CMSIS-NN's scratch of a 7x7 window is larger than all tensors, and many tensors are kept."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu6", name="stem")(x)
    for name, filters in (("first", 4), ("second", 8)):
        x = layers.DepthwiseConv2D(7, padding="same", activation="relu", name=f"{name}_depthwise")(x)
        x = layers.Conv2D(filters, 1, activation="relu", name=name)(x)
    model = keras.Model(image, layers.Dense(5, name="embedding")(layers.Flatten(name="flatten")(x)))
    plan = Plan(tuple(LayerPlan(name, tuple(range(count))) for name, count in (("first", 4), ("second", 8), ("embedding", 5))))
    target = dataclasses.replace(board("nano33ble"), kernels=kernels)
    training = TrainingSettings(num_classes=WAYS, max_samples=WAYS * SHOTS)
    return export_tflm(model, plan, calibration=images(model, 8), out=out, board=target, training=training, head="prototypes")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A bundle, samples, and what the host's run of them gives."""
    model = few_operators_net()
    plan = Plan((LayerPlan("pointwise", (0, 1, 2, 3)), LayerPlan("embedding", (0, 1, 2, 3, 4))))
    training = TrainingSettings(learning_rate=0.01, iterations=3, num_classes=WAYS, max_samples=WAYS * SHOTS)
    out = tmp_path_factory.mktemp("task") / "net"
    bundle = export_tflm(model, plan, calibration=images(model, 8), out=out, training=training, head="prototypes")
    x, y = labelled_images(model, per_class=SHOTS, classes=WAYS)
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    losses = host.train()
    return bundle, x, y, (losses, host.trainer.save_delta(0), host.predict(x[:2]).tolist())
