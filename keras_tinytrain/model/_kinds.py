"""Which kind of row a Keras layer is in the layer table."""

import keras

TRAINABLE_LAYERS = "Conv1D, Conv2D, DepthwiseConv1D, DepthwiseConv2D and Dense"
CHANNEL_AXIS = {"conv": -1, "depthwise": -2, "dense": -1}  # of the kernel, as Keras lays it out
_ALONE = (keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU)  # activations that no operator applies itself
_FUSED = [getattr(keras.activations, name) for name in ("linear", "relu", "relu6", "softmax")]  # what it may apply
_OF_INPUT = [getattr(keras.activations, name) for name in ("hard_silu", "hard_sigmoid")]
_KINDS: dict[str, tuple[type, ...]] = {
    "conv": (keras.layers.Conv2D, keras.layers.Conv1D),
    "depthwise": (keras.layers.DepthwiseConv2D, keras.layers.DepthwiseConv1D),
    "dense": (keras.layers.Dense,),
    "add": (keras.layers.Add,),
    "multiply": (keras.layers.Multiply,),
    "concatenate": (keras.layers.Concatenate,),
    "batch_norm": (keras.layers.BatchNormalization,),
    "pad": (keras.layers.ZeroPadding2D, keras.layers.ZeroPadding1D),
    "input": (keras.layers.InputLayer,),
    "activation": (keras.layers.Activation, keras.layers.ReLU, keras.layers.Softmax, *_ALONE),
    "pool": (
        keras.layers.GlobalAveragePooling2D,
        keras.layers.AveragePooling2D,
        keras.layers.GlobalAveragePooling1D,
        keras.layers.AveragePooling1D,
    ),
    "max_pool": (
        keras.layers.GlobalMaxPooling2D,
        keras.layers.MaxPooling2D,
        keras.layers.GlobalMaxPooling1D,
        keras.layers.MaxPooling1D,
    ),
    "identity": (
        keras.layers.Flatten,
        keras.layers.Reshape,
        keras.layers.Identity,
        keras.layers.Dropout,
        keras.layers.SpatialDropout1D,
        keras.layers.SpatialDropout2D,
        keras.layers.GaussianDropout,
        keras.layers.GaussianNoise,
        keras.layers.AlphaDropout,
    ),
}


def kind_of(layer: keras.layers.Layer) -> str:
    """The kind of a layer; "other" where its class is not known. A subclass may compute anything, so it is "other" too."""
    return next((kind for kind, classes in _KINDS.items() if type(layer) in classes), "other")


def can_fuse(layer: keras.layers.Layer) -> bool:
    """Whether the device's operator before an activation may apply it itself."""
    return type(layer) not in _ALONE and getattr(layer, "activation", keras.activations.relu) in _FUSED


def has_constant(layer: keras.layers.Layer) -> bool:
    """Whether an activation adds a constant, which the converter makes a part of the bias of the layer before it."""
    return type(layer) is keras.layers.Activation and layer.activation is keras.activations.hard_sigmoid


def reads_input(layer: keras.layers.Layer) -> bool:
    """Whether the gradient of an activation reads its input, since its output does not determine the gradient."""
    return type(layer) is keras.layers.Activation and layer.activation in _OF_INPUT
