"""walk, rebuild, flatten: order, nesting, and models that cannot be handled named in the error."""

import keras
import numpy as np
import pytest
from keras import layers
from models import images, tiny_net

from keras_tinytrain.model.graph import find_layer, flatten, rebuild, require_functional, walk
from keras_tinytrain.model.layers import layer_table


def nested_model():
    """A Sequential in a Functional in a Sequential."""
    inner = keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2D(4, 1, name="inner_conv")], name="inner")
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", name="first")(image)
    middle = keras.Model(image, layers.Add(name="sum")([x, inner(x)]), name="middle")
    return keras.Sequential([keras.Input((6, 6, 3)), middle, layers.Flatten(name="flat"), layers.Dense(2, name="last")])


def test_nodes_come_after_what_they_read():
    nodes = walk(tiny_net())
    assert [node.layer.name for node in nodes][:3] == ["image", "stem", "b1_expand"]
    assert all(index > source for index, node in enumerate(nodes) for source in node.inputs)
    add = next(node for node in nodes if node.layer.name == "b1_add")
    assert {nodes[i].layer.name for i in add.inputs} == {"stem", "b1_project"}


def test_flatten_dissolves_nested_models_and_shares_weights():
    model = nested_model()
    flat = flatten(model)
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 3)).astype("float32")
    np.testing.assert_array_equal(flat(x), model(x))
    assert [node.layer.name for node in walk(flat)][1:] == ["first", "inner_conv", "sum", "flat", "last"]
    assert flat.get_layer("inner_conv") is find_layer(model, "inner_conv")


def test_flatten_leaves_a_flat_model_as_it_is():
    model = tiny_net()
    assert flatten(model) is model


def test_a_flat_model_has_the_users_name():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="inner")
    for model in (inner, keras.Sequential([inner, keras.layers.Dense(2)], name="mine")):
        assert flatten(model).name == layer_table(model).model_name == model.name


def test_rebuild_replaces_layers():
    model = tiny_net()
    without_dropout = rebuild(model, lambda layer, x, **options: x if layer.name == "dropout" else layer(x, **options))
    x = images(model, 2)
    np.testing.assert_array_equal(without_dropout(x), model(x))
    assert "dropout" not in [layer.name for layer in without_dropout.layers]


def test_operations_without_layers_are_walked():
    image = keras.Input((4,))
    model = keras.Model(image, keras.ops.relu(layers.Dense(3, name="dense")(image) + 1.0))
    assert [node.layer.name for node in walk(model)][1] == "dense"
    assert len(walk(model)) == 4


def test_shared_layer_is_named():
    image, shared = keras.Input((4,)), layers.Dense(4, name="twice")
    model = keras.Model(image, shared(shared(image)), name="net")
    with pytest.raises(ValueError, match="'twice' is called more than once in model 'net'"):
        walk(model)
    with pytest.raises(ValueError, match="'twice' is called more than once"):
        rebuild(model, lambda layer, x, **options: layer(x, **options))


def test_nested_model_that_is_called_twice_is_named():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="twice")], name="inner")
    image = keras.Input((4,))
    with pytest.raises(ValueError, match="'twice' is called more than once in model 'net'"):
        flatten(keras.Model(image, inner(inner(image)), name="net"))


def test_layers_of_one_name_in_several_models_go_by_their_path():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="same"), layers.Dense(4, name="own")], name="inner")
    outer = keras.Sequential([keras.Input((4,)), inner, layers.Dense(4, name="same")], name="outer")
    model = keras.Sequential([keras.Input((4,)), outer, layers.Dense(4, name="same")], name="net")
    flat, x = flatten(model), np.random.default_rng(0).normal(size=(3, 4))
    assert [node.layer.name for node in walk(flat)][1:] == ["outer.inner.same", "own", "outer.same", "same"]
    np.testing.assert_array_equal(flat(x), model(x))
    assert find_layer(model, "outer.inner.same") is inner.layers[0] and find_layer(model, "same") is model.layers[-1]
    assert flat.get_layer("outer.inner.same").kernel is inner.layers[0].kernel and inner.layers[0].name == "same"


def test_a_layer_without_weights_may_be_called_at_several_places():
    image, relu = keras.Input((4,)), layers.ReLU(name="relu")
    model = keras.Model(image, relu(layers.Dense(3, name="last")(relu(layers.Dense(4, name="first")(image)))))
    flat, x = flatten(model), np.random.default_rng(0).normal(size=(3, 4))
    assert [node.layer.name for node in walk(flat)][1:] == ["first", "relu", "last", "relu.2"]
    np.testing.assert_array_equal(flat(x), model(x))


def test_a_layer_inside_a_wrapper_does_not_hide_one_of_its_name():
    wrapped = layers.TimeDistributed(layers.Dense(3, name="dense"))
    model = keras.Sequential([keras.Input((5, 4)), wrapped, layers.Flatten(), layers.Dense(2, name="dense")])
    assert find_layer(model, "dense") is model.layers[-1]


@pytest.mark.parametrize("outputs", [lambda x: [x], lambda x: {"embedding": x}], ids=["list", "dict"])
def test_a_single_output_in_a_structure_comes_without_it(outputs):
    plain = tiny_net()
    flat = flatten(keras.Model([plain.input], outputs(plain.output)))
    assert flat.output_shape == (None, 5)


def test_several_outputs_are_named():
    image = keras.Input((4,))
    with pytest.raises(ValueError, match=r"'net' has 2 outputs \['a', 'b'\]"):
        walk(keras.Model(image, [layers.Dense(2, name=name)(image) for name in "ab"], name="net"))


def test_several_inputs_are_named():
    a, b = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    with pytest.raises(ValueError, match=r"'net' has 2 inputs \['left', 'right'\]"):
        walk(keras.Model([a, b], layers.Add()([a, b]), name="net"))


def test_unbuilt_model_says_how_to_build_it():
    with pytest.raises(ValueError, match="'net' is not built.*keras.Input"):
        require_functional(keras.Sequential([layers.Dense(2)], name="net"))


def test_subclassed_model_is_named():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match=r"Own 'net', a subclassed model.*keras.Model\(x, model.call\(x\)\)"):
        walk(Own(name="net"))


def test_advice_for_a_subclassed_model_works():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    model, x = Own(), keras.Input((4,))
    rebuilt = keras.Model(x, model.call(x))
    assert [node.layer for node in walk(rebuilt)][-1] is model.dense


def test_unknown_layer_is_named():
    with pytest.raises(ValueError, match="'tiny_net' has no layer 'nowhere'"):
        find_layer(tiny_net(), "nowhere")
