"""relu_first: a ReLU after hard SiLU or PReLU comes before it, where that is the same function."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_tinytrain.model.fold import canonical_form

SHAPE = (7, 7, 6)


LATE = {
    "hard_silu": ([layers.Activation("hard_silu")], ["ReLU", "Activation"]),
    "through_layers_that_do_nothing": (
        [layers.Activation("hard_silu"), layers.Dropout(0.1), layers.Reshape((49, 6))],
        ["ReLU", "Activation", "Dropout", "Reshape"],
    ),
    "relu_twice": ([layers.Activation("hard_silu"), layers.ReLU()], ["ReLU", "ReLU", "Activation"]),
    "prelu": ([layers.PReLU(shared_axes=[1, 2], alpha_initializer="ones")], ["ReLU"]),
    "prelu_that_falls": ([layers.PReLU(alpha_initializer=keras.initializers.Constant(-1))], ["PReLU", "ReLU"]),
    "silu": ([layers.Activation("silu", name="silu")], ["Activation", "Multiply", "ReLU"]),
}


@pytest.mark.parametrize("maximum", [None, 6.0, 2.0])
@pytest.mark.parametrize("case", LATE)
def test_relu_comes_before_what_the_converter_does_not_know_with_it(case, maximum):
    """Unless that is another function, as with a clip below 3, where hard SiLU is not yet its input."""
    steps, names = LATE[case]
    copies = [type(step).from_config(step.get_config()) for step in steps]
    model = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(6, 1), *copies, layers.ReLU(maximum)])
    canonical = canonical_form(model)
    x = np.random.default_rng(0).normal(0, 4, (4, *SHAPE))
    np.testing.assert_allclose(canonical(x), model(x), atol=1e-5)
    if maximum != 2:
        assert [type(layer).__name__ for layer in canonical.layers[2:]] == names


def test_a_late_relu_stays_where_something_else_reads_its_activation():
    x = image = keras.Input(SHAPE)
    x = layers.Activation("hard_silu")(layers.Conv2D(6, 1)(x))
    model = keras.Model(image, layers.Add()([x, layers.ReLU(6.0)(x)]))
    assert canonical_form(model) is model
