"""What the backward pass needs, by hand: gradients, values that it reads, bottleneck interiors, and where gradients lie."""

import pytest

from keras_tinytrain.choose.backward_pass import Step, interiors, place_gradients, values_read, with_gradient


def chain(*steps):
    """Steps one after the other: tensor 0 is the input, step i writes tensor i + 1."""
    return [Step(inputs=(index,), output=index + 1, **options) for index, options in enumerate(steps)]


TRAINED, PLAIN, RELU, MAX_POOL = {"trained": True}, {}, {"reads_output": True}, {"reads_input": True}
POINTWISE, DEPTHWISE = {"pointwise": True}, {"depthwise": True}


def test_gradient_flows_into_all_that_depends_on_a_trained_step():
    steps = [Step((0,), 1), Step((1,), 2, trained=True), Step((1,), 3), Step((2, 3), 4)]
    assert with_gradient(steps) == {2, 4}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([TRAINED, PLAIN, PLAIN], {0}),
        ([PLAIN, TRAINED, TRAINED], {1, 2}),
        ([RELU, TRAINED, RELU, RELU], {1, 3, 4}),  # no gradient goes through the first ReLU
        ([TRAINED, MAX_POOL, PLAIN], {0, 1}),
        ([MAX_POOL, TRAINED], {1}),  # no gradient goes into max pooling
        ([TRAINED | RELU, MAX_POOL], {0, 1}),
    ],
)
def test_values_read_are_masks_inputs_of_trained_steps_and_of_max_pooling(steps, expected):
    assert values_read(chain(*steps)) == expected


SHAPES = dict.fromkeys(range(8), (4, 4, 32))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([TRAINED | POINTWISE, DEPTHWISE, POINTWISE], {1: 8, 2: 1}),
        ([PLAIN, TRAINED | DEPTHWISE, POINTWISE], {2: 1}),  # nothing flows into the depthwise convolution's input
        ([TRAINED, DEPTHWISE, POINTWISE], {}),  # a wider kernel before it
        ([TRAINED | POINTWISE, DEPTHWISE, PLAIN], {}),  # a wider kernel after it
        ([TRAINED | POINTWISE, DEPTHWISE, POINTWISE, DEPTHWISE, POINTWISE], {1: 8, 2: 1}),  # separable: every second one
    ],
)
def test_interiors_by_hand(steps, expected):
    assert interiors(chain(*steps), SHAPES) == expected


def test_interior_that_something_else_reads_is_whole():
    steps = chain(TRAINED | POINTWISE, DEPTHWISE, POINTWISE)
    assert interiors([*steps, Step((1, 3), 4)], SHAPES) == {}
    assert interiors([*steps, Step((2, 3), 4)], SHAPES) == {}


def test_interior_of_steps_that_are_apart_is_whole():
    """The runtime takes a bottleneck's steps as one, so that none may stand between them."""
    steps = chain(TRAINED, POINTWISE, DEPTHWISE, POINTWISE)
    other, end = Step((1,), 5), Step((4, 5), 6)
    assert interiors([*steps, other, end], SHAPES) == {2: 8, 3: 1}
    assert interiors([*steps[:3], other, steps[3], end], SHAPES) == {}


def test_gradients_of_a_chain_take_its_two_largest_neighbours():
    shapes = {0: (1, 1, 400), 1: (1, 1, 4), 2: (1, 1, 8), 3: (1, 1, 16), 4: (1, 1, 4)}
    gradients = place_gradients(chain(TRAINED, PLAIN, PLAIN, PLAIN), shapes, {})
    assert set(gradients.offsets) == {1, 2, 3, 4}
    assert gradients.num_bytes == gradients.bound == 4 * (8 + 16)


def test_gradient_turns_into_that_of_an_elementwise_steps_input():
    shapes = dict.fromkeys(range(4), (1, 1, 16))
    apart, in_place = (place_gradients(chain(TRAINED, {"elementwise": flag}), shapes, {}) for flag in (False, True))
    assert (apart.num_bytes, in_place.num_bytes) == (128, 64)
    assert in_place.offsets[1] == in_place.offsets[2]


def test_gradient_of_a_tensor_added_to_itself_has_a_place_of_its_own():
    steps = [Step((0,), 1, trained=True), Step((1, 1), 2, elementwise=True)]
    gradients = place_gradients(steps, dict.fromkeys(range(3), (1, 1, 16)), {})
    assert gradients.offsets[1] != gradients.offsets[2]


def test_gradient_of_an_interior_is_some_planes():
    steps, shapes = chain(TRAINED | POINTWISE, DEPTHWISE, POINTWISE), {**SHAPES, 3: (4, 4, 8)}
    gradients = place_gradients(steps, shapes, interiors(steps, shapes))
    assert gradients.num_bytes == 4 * 16 * (8 + 8 + 1)  # the output's 8 channels, 8 planes and 1
    assert place_gradients(steps, shapes, {}).num_bytes == 4 * 16 * (32 + 32)
