"""Networks for small pictures."""

import keras
from keras import layers


def mnist_dense():
    """The dense network of TensorFlow's quickstart for beginners, logits"""
    return keras.Sequential(
        [keras.Input((28, 28)), layers.Flatten(), layers.Dense(128, "relu"), layers.Dropout(0.2), layers.Dense(10)]
    )


def lenet5():
    """LeNet-5 (LeCun et al., 1998), tanh and average pooling"""
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(6, 5, padding="same", activation="tanh")])
    model.add(layers.AveragePooling2D(2))
    model.add(layers.Conv2D(16, 5, activation="tanh"))
    model.add(layers.AveragePooling2D(2))
    model.add(layers.Flatten())
    for units in (120, 84):
        model.add(layers.Dense(units, "tanh"))
    model.add(layers.Dense(10, "softmax"))
    return model


def cifar_tutorial():
    """The CNN of TensorFlow's tutorial on CIFAR-10, logits"""
    model = keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(32, 3, activation="relu")])
    model.add(layers.MaxPooling2D())
    model.add(layers.Conv2D(64, 3, activation="relu"))
    model.add(layers.MaxPooling2D())
    model.add(layers.Conv2D(64, 3, activation="relu"))
    model.add(layers.Flatten())
    model.add(layers.Dense(64, "relu"))
    model.add(layers.Dense(10))
    return model


def flowers_tutorial():
    """The CNN of TensorFlow's tutorial on flowers, augmentation and Rescaling inside, at 64 x 64, logits"""
    model = keras.Sequential([keras.Input((64, 64, 3)), layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])
    model.add(layers.RandomZoom(0.1))
    model.add(layers.Rescaling(1.0 / 255))
    for filters in (16, 32, 64):
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.Dropout(0.2))
    model.add(layers.Flatten())
    model.add(layers.Dense(128, "relu"))
    model.add(layers.Dense(5, name="outputs"))
    return model


def cats_and_dogs():
    """A plain CNN with one sigmoid unit for two classes, at 48 x 48"""
    model = keras.Sequential([keras.Input((48, 48, 3))])
    for filters in (8, 16, 32):
        model.add(layers.Conv2D(filters, 3, activation="relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(1, "sigmoid"))
    return model


def vgg():
    """VGG's pattern (Simonyan and Zisserman, 2015) with BatchNorm, at 32 x 32"""
    model = keras.Sequential([keras.Input((32, 32, 3))])
    for filters in (16, 32, 64):
        for _ in range(2):
            model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
            model.add(layers.BatchNormalization())
            model.add(layers.ReLU())
        model.add(layers.MaxPooling2D())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10, "softmax"))
    return model


def resnet8():
    """ResNet-8 for CIFAR (He et al., 2016)"""
    return _resnet("resnet8", widths=(16, 32, 64), blocks=1)


def resnet18():
    """ResNet-18's four stages of two blocks at a quarter of its width, at 32 x 32"""
    return _resnet("resnet18", widths=(16, 32, 64, 128), blocks=2)


def squeezenet():
    """SqueezeNet's fire modules and its convolutional head (Iandola et al., 2016), at 48 x 48"""
    x = image = keras.Input((48, 48, 3))
    x = layers.MaxPooling2D(3, 2)(layers.Conv2D(16, 3, strides=2, activation="relu")(x))
    for squeezed, expanded in ((4, 16), (4, 16), (8, 32), (8, 32)):
        x = layers.Conv2D(squeezed, 1, activation="relu")(x)
        sides = [layers.Conv2D(expanded, size, padding="same", activation="relu")(x) for size in (1, 3)]
        x = layers.Concatenate()(sides)
    x = layers.Conv2D(10, 1, activation="relu")(layers.Dropout(0.5)(x))
    x = layers.Softmax()(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x, name="squeezenet")


def squeeze_and_excite():
    """A CNN with squeeze-and-excitation (Hu et al., 2018), at 32 x 32"""
    x = image = keras.Input((32, 32, 3))
    for filters in (16, 32):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
        gate = layers.Dense(filters // 4, "relu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
        x = layers.Multiply()([x, layers.Dense(filters, "sigmoid")(gate)])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, "softmax")(x), name="squeeze_and_excite")


def resnet_v2():
    """A ResNet of the second kind, normalised and activated before each convolution (He et al., 2016), at 32 x 32"""
    x = image = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    for stage, width in enumerate((16, 32, 64)):
        stride = 2 if stage else 1
        y = _activated(x)
        x = layers.Conv2D(width, 1, stride)(y) if stage else x
        y = layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(y)
        x = layers.Add()([x, layers.Conv2D(width, 3, padding="same")(_activated(y))])
    x = layers.GlobalAveragePooling2D()(_activated(x))
    return keras.Model(image, layers.Dense(10, "softmax")(x), name="resnet_v2")


def densenet():
    """A small DenseNet of two blocks (Huang et al., 2017), at 32 x 32"""
    x = image = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, 2, padding="same", use_bias=False)(x)
    for block in range(2):
        x = layers.AveragePooling2D(2)(layers.Conv2D(16, 1, use_bias=False)(_activated(x))) if block else x
        for _ in range(3):
            y = layers.Conv2D(32, 1, use_bias=False)(_activated(x))
            x = layers.Concatenate()([x, layers.Conv2D(8, 3, padding="same", use_bias=False)(_activated(y))])
    x = layers.GlobalAveragePooling2D()(_activated(x))
    return keras.Model(image, layers.Dense(10, "softmax")(x), name="densenet")


def embedding_backbone():
    """A backbone without a head: a 32-dimensional embedding, at 32 x 32"""
    x = image = keras.Input((32, 32, 3))
    for filters in (8, 16, 32):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x), name="embedding_backbone")


def _resnet(name, *, widths, blocks):
    x = image = keras.Input((32, 32, 3))
    x = _convolution(x, widths[0], 3, 1)
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = _convolution(layers.ReLU()(_convolution(x, width, 3, stride)), width, 3, 1)
            same = stride == 1 and x.shape[-1] == width
            x = layers.ReLU()(layers.Add()([y, x if same else _convolution(x, width, 1, stride)]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, "softmax")(x), name=name)


def _activated(x):
    return layers.ReLU()(layers.BatchNormalization()(x))


def _convolution(x, filters, size, stride):
    x = layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False)(x)
    return layers.BatchNormalization()(x)


NETWORKS = (
    mnist_dense,
    lenet5,
    cifar_tutorial,
    flowers_tutorial,
    cats_and_dogs,
    vgg,
    resnet8,
    resnet18,
    squeezenet,
    squeeze_and_excite,
    resnet_v2,
    densenet,
    embedding_backbone,
)
