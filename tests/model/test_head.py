"""classifier_head: found from the graph, whatever activation, pooling or reshaping follows it."""

import keras
import pytest
from keras import layers
from models import embedding_net, pooled_net, separable_net, tiny_net

from keras_tinytrain.model.head import classifier_head


def chain(*following, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *following])


def head(kind=layers.Dense, *args, **options):
    return kind(3, *args, name="head", **options)


@pytest.mark.parametrize(
    "model",
    [
        chain(layers.Flatten(), head(activation="softmax")),
        chain(layers.Flatten(), head(), layers.Softmax()),
        chain(layers.Flatten(), head(), layers.Rescaling(0.5), layers.Activation("softmax")),
        chain(layers.Flatten(), layers.Dense(1, activation="sigmoid", name="head")),
        chain(layers.Conv2D(4, 8), head(layers.Conv2D, 1), layers.Reshape((3,)), layers.Softmax()),
        chain(layers.Conv2D(4, 8), head(layers.Conv2D, 1), layers.Flatten()),
        chain(head(layers.Conv2D, 1, activation="relu"), layers.GlobalAveragePooling2D(), layers.Softmax()),
        chain(layers.Dense(4), head(), layers.GlobalAveragePooling1D(), shape=(6, 2)),
        chain(chain(layers.Flatten(), layers.Dense(5)), chain(head(), layers.Softmax(), shape=(5,))),
    ],
)
def test_head_is_found_behind_any_ending(model):
    assert classifier_head(model) == "head"


@pytest.mark.parametrize(
    "model",
    [
        chain(layers.Conv2D(4, 3), layers.Conv2D(3, 1, activation="softmax")),  # a map
        chain(layers.Conv2D(1, 3, activation="sigmoid"), layers.Flatten()),  # a map in one row
        chain(layers.Dense(4), shape=(6, 2)),  # a sequence
        chain(layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D()),  # an embedding
        chain(layers.Flatten(), layers.Dense(4), layers.UnitNormalization()),
        chain(layers.LSTM(4), shape=(6, 2)),
        separable_net(),
        embedding_net(),
    ],
)
def test_maps_sequences_and_embeddings_have_no_head(model):
    assert classifier_head(model) is None


def test_head_of_nets_that_end_in_dense():
    assert classifier_head(tiny_net()) == "logits"
    assert classifier_head(pooled_net()) == "embedding"


def test_sum_at_the_output_has_no_head():
    x = keras.Input((4,))
    assert classifier_head(keras.Model(x, layers.Add()([layers.Dense(3)(x), layers.Dense(3)(x)]))) is None
    first, second = layers.Dense(3)(x), layers.Dense(2)(x)
    assert classifier_head(keras.Model(x, layers.Concatenate()([first, second]))) is None


def test_softmax_written_as_an_operation_is_passed():
    x = keras.Input((4,))
    assert classifier_head(keras.Model(x, keras.ops.softmax(head()(x)))) == "head"
    assert classifier_head(keras.Model(x, [head()(x)])) == "head"
