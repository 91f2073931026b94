"""Small models that several tests share: seeded, with activations that neither vanish nor explode."""

import keras
import numpy as np
from keras import layers


def tiny_net(*, classes=5, size=12, seed=0):
    """Convolution, two inverted bottlenecks (one residual), a residual convolution, pooling and a dense layer.

    Returns a Functional model, (N, size, size, 3) -> (N, classes) logits.
    """
    keras.utils.set_random_seed(seed)
    image = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu6", name="stem")(image)
    y = layers.Conv2D(16, 1, activation="relu6", name="b1_expand")(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu6", name="b1_depthwise")(y)
    y = layers.Conv2D(8, 1, name="b1_project")(y)
    x = layers.Add(name="b1_add")([x, y])
    y = layers.Conv2D(16, 1, name="b2_expand")(x)
    y = layers.ReLU(6.0, name="b2_relu")(y)
    y = layers.ZeroPadding2D(1, name="b2_pad")(y)
    y = layers.DepthwiseConv2D(3, strides=2, name="b2_depthwise")(y)
    y = layers.ReLU(name="b2_relu_2")(y)
    x = layers.Conv2D(12, 1, name="b2_project")(y)
    y = layers.Conv2D(12, 3, padding="same", activation="relu", name="b3_conv")(x)
    x = layers.Add(name="b3_add")([x, y])
    x = layers.ReLU(name="b3_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.1, name="dropout")(x)
    x = layers.Dense(classes, name="logits")(x)
    return _calibrated(keras.Model(image, x, name="tiny_net"), seed)


def separable_net(*, size=12, seed=0):
    """A convolution and four depthwise separable layers, as in DS-CNN and MobileNetV1; (N, size, size, 3) -> (N, 10) embeddings."""
    keras.utils.set_random_seed(seed)
    x = image = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(x)
    for index in range(1, 5):
        x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name=f"s{index}_depthwise")(x)
        x = layers.Conv2D(10, 1, activation="relu", name=f"s{index}_pointwise")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return _calibrated(keras.Model(image, x, name="separable_net"), seed)


def pooled_net(*, size=12, seed=0):
    """Average pooling, stand-alone ReLU and flatten; (N, size, size, 2) -> (N, 6) embeddings."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((size, size, 2)),
            layers.Conv2D(6, 3, activation="relu", name="first"),
            layers.AveragePooling2D(2, name="average"),
            layers.Conv2D(6, (3, 2), strides=(1, 2), padding="same", name="second"),
            layers.AveragePooling2D(3, strides=2, padding="same", name="average_same"),
            layers.ReLU(name="relu"),
            layers.Flatten(name="flatten"),
            layers.Dense(10, activation="relu", name="hidden"),
            layers.Dense(6, name="embedding"),
        ],
        name="pooled_net",
    )
    return _calibrated(model, seed)


def sequence_net(*, steps=20, seed=0):
    """Convolutions over time of every kind, as in keyword and motion networks; (N, steps, 3) -> (N, 6) embeddings."""
    keras.utils.set_random_seed(seed)
    x = image = keras.Input((steps, 3), name="window")
    x = layers.Conv1D(8, 3, padding="same", name="first")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.MaxPooling1D(2, name="max")(layers.SpatialDropout1D(0.1, name="dropout")(x))
    y = layers.Conv1D(8, 3, padding="causal", activation="relu", name="causal")(x)
    x = layers.Add(name="add")([x, layers.DepthwiseConv1D(3, padding="same", name="depthwise")(y)])
    x = layers.Conv1D(6, 3, strides=2, activation="relu6", name="second")(x)
    x = layers.AveragePooling1D(2, name="average")(x)
    x = layers.Dense(6, name="embedding")(layers.Flatten(name="flatten")(x))
    return _calibrated(keras.Model(image, x, name="sequence_net"), seed)


def gated_net(*, size=12, seed=0):
    """Squeeze and excite, SiLU and hard swish, as in EfficientNet and MobileNetV3; (N, size, size, 3) -> (N, 6) embeddings."""
    keras.utils.set_random_seed(seed)
    x = image = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="silu", name="stem")(x)
    y = layers.Conv2D(16, 1, activation="hard_silu", name="expand")(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="silu", name="depthwise")(y)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(y)
    gate = layers.Conv2D(4, 1, activation="relu", name="reduce")(gate)
    gate = layers.Conv2D(16, 1, activation="sigmoid", name="gate")(gate)
    y = layers.Conv2D(8, 1, name="project")(layers.Multiply(name="excite")([y, gate]))
    x = layers.Activation("hard_silu", name="swish")(layers.Add(name="add")([x, y]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Multiply(name="square")([x, x])
    return _calibrated(keras.Model(image, layers.Dense(6, name="embedding")(x), name="gated_net"), seed)


def stored_maps_net(*, size=16, seed=0):
    """Four inverted bottlenecks at three resolutions; (N, size, size, 3) -> (N, 12) embeddings.

    A closed-form head reads the ends of "b2", "b3" and "b4". Where "b4" alone is trained, the frozen part computes two of them: "b3"
    ends in a residual, so that the cut comes after it.
    """
    keras.utils.set_random_seed(seed)
    image = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu6", name="stem")(image)
    for block, (channels, strides) in {"b1": (8, 1), "b2": (12, 2), "b3": (12, 1), "b4": (12, 1)}.items():
        y = layers.Conv2D(20, 1, activation="relu6", name=f"{block}_expand")(x)
        y = layers.DepthwiseConv2D(3, strides=strides, padding="same", activation="relu6", name=f"{block}_depthwise")(y)
        y = layers.Conv2D(channels, 1, name=f"{block}_project")(y)
        x = layers.Add(name=f"{block}_add")([x, y]) if block in ("b1", "b3") else y
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return _calibrated(keras.Model(image, x, name="stored_maps_net"), seed)


def joined_net(*, size=12, seed=0):
    """Concatenate, PReLU, ELU, tanh and sigmoid, and dense layers along an axis; (N, size, size, 3) -> (N, 5) embeddings."""
    keras.utils.set_random_seed(seed)
    slopes = keras.initializers.RandomUniform(0.1, 0.6, seed=seed)
    x = image = keras.Input((size, size, 3), name="image")
    x = layers.PReLU(slopes, shared_axes=[1, 2], name="prelu")(layers.Conv2D(6, 3, strides=2, name="stem")(x))
    x = layers.Conv2D(4, 1, activation="elu", name="squeeze")(x)
    left = layers.Conv2D(4, 1, activation="relu", name="left")(x)
    right = layers.Conv2D(6, 3, padding="same", activation="tanh", name="right")(x)
    x = layers.Concatenate(name="join")([left, layers.Conv2D(6, 1, name="mix")(right)])
    x = layers.Dense(7, activation="sigmoid", name="along")(x)
    x = layers.Dense(5, name="embedding")(layers.Flatten(name="flat")(x))
    return _calibrated(keras.Model(image, x, name="joined_net"), seed)


def branches_net(*, size=10, seed=0):
    """A sum, a product and a concatenation of more than two tensors, these ending in ReLU, sigmoid, tanh and ELU.

    (N, size, size, 3) -> (N, 5) embeddings.
    """
    keras.utils.set_random_seed(seed)
    x = image = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(6, 3, strides=2, activation="relu", name="stem")(x)
    x = layers.Add(name="sum")([x, layers.Conv2D(6, 3, padding="same", name="near")(x), layers.Conv2D(6, 1, name="same")(x)])
    ends = ("elu", "relu", "sigmoid", "tanh")
    x = layers.Concatenate(name="join")([layers.Conv2D(3 + n, 1, activation=end, name=end)(x) for n, end in enumerate(ends)])
    gates = [layers.Conv2D(18, 1, activation="sigmoid", name=f"gate{n}")(x) for n in (1, 2)]
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Multiply(name="product")([x, *gates]))
    return _calibrated(keras.Model(image, layers.Dense(5, name="embedding")(x), name="branches_net"), seed)


def embedding_net(seed=0):
    """Stem and two inverted bottlenecks; (N, 12, 12, 1) -> (N, 12) embeddings."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((12, 12, 1), name="image")
    x = layers.Conv2D(6, 3, strides=2, padding="same", name="stem")(image)
    for name, filters in (("b1", 6), ("b2", 12)):
        y = layers.ReLU(6.0)(layers.Conv2D(16, 1, name=f"{name}.pw1")(x))
        y = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same", name=f"{name}.dw")(y))
        y = layers.Conv2D(filters, 1, name=f"{name}.pw2")(y)
        x = layers.Add(name=f"{name}.add")([x, y]) if filters == x.shape[-1] else y
    return keras.Model(image, layers.GlobalAveragePooling2D(name="pool")(x), name="backbone")


def small_net(seed=0):
    """Every kind of layer with channels, and BatchNorm; (N, 8, 8, 3) -> (N, 3) logits."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(6.0, name="relu")(x)
    x = layers.Conv2D(6, 1, name="project")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(3, name="logits")(x))


def batch(seed=1, count=12):
    """Random inputs and labels for `small_net`."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 8, 8, 3)).astype(np.float32), rng.integers(0, 3, count)


def images(model, count, *, seed=1):
    """Smooth random images in [-1, 1] of the model's input shape, (count, height, width, channels) float32; sequences alike."""
    rng = np.random.default_rng(seed)
    if len(model.input_shape) == 3:
        return rng.uniform(-1, 1, (count, *model.input_shape[1:])).astype(np.float32)
    _, height, width, channels = model.input_shape
    coarse = rng.uniform(-1, 1, (count, -(-height // 3), -(-width // 3), channels))
    smooth = coarse.repeat(3, axis=1).repeat(3, axis=2)[:, :height, :width]
    return np.clip(smooth + rng.normal(0, 0.1, smooth.shape), -1, 1).astype(np.float32)


def labelled_images(model, *, per_class, classes, seed=2):
    """Images that differ by class: one smooth pattern a class, plus noise. Returns x (N, ...), y (N,) int32."""
    patterns = images(model, classes, seed=seed)
    y = np.repeat(np.arange(classes, dtype=np.int32), per_class)
    noise = np.random.default_rng(seed + 1).normal(0, 0.3, (len(y), *patterns.shape[1:]))
    return np.clip(patterns[y] + noise, -1, 1).astype(np.float32), y


def _calibrated(model, seed):
    """Scale each kernel so that its layer's outputs have variance 1, and give it small biases."""
    rng = np.random.default_rng(seed)
    x = images(model, 16, seed=seed + 100)
    for layer in model.layers:
        if not hasattr(layer, "kernel"):
            continue
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel, np.zeros_like(bias)])
        activation, layer.activation = layer.activation, keras.activations.linear
        deviation = float(np.std(keras.Model(model.inputs[0], layer.output)(x)))
        layer.activation = activation
        layer.set_weights([kernel / deviation, rng.normal(0, 0.2, bias.shape).astype(np.float32)])
    return model
