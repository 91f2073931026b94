"""Every backward kernel against float64 numpy, to 1e-5 of the largest magnitude in the true gradient."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tinytrain import _runtime

TOLERANCE = 1e-5


def assert_gradient(actual, expected):
    """Relative to the largest entry: a sum that nearly cancels keeps the absolute error of its terms."""
    largest = np.abs(expected).max(initial=0.0)
    actual = np.asarray(actual, np.float64).reshape(expected.shape)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * largest)


@st.composite
def windows(draw, depthwise=False, pointwise=False):
    """A window shape as the runtime takes it: any size, stride and padding of which every window touches the input."""
    side = st.integers(1, 9)
    input_height, input_width = draw(side), draw(side)
    input_channels = draw(st.integers(1, 6))
    output_channels = input_channels if depthwise else draw(st.integers(1, 6))
    if pointwise:  # panels of 16, 8 and fewer channels
        input_channels, output_channels = draw(st.integers(1, 40)), draw(st.integers(1, 20))
        return (input_height, input_width, input_channels, input_height, input_width, output_channels, 1, 1, 1, 1, 0, 0)
    kernel_height, kernel_width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    stride_height, stride_width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    pad_top, pad_left = draw(st.integers(0, kernel_height - 1)), draw(st.integers(0, kernel_width - 1))
    output_height = draw(st.integers(1, (input_height - 1 + pad_top) // stride_height + 1))
    output_width = draw(st.integers(1, (input_width - 1 + pad_left) // stride_width + 1))
    return (
        input_height,
        input_width,
        input_channels,
        output_height,
        output_width,
        output_channels,
        kernel_height,
        kernel_width,
        stride_height,
        stride_width,
        pad_top,
        pad_left,
    )


seeds = st.integers(0, 2**32 - 1)


def patches(x, shape):
    """Windows of x, [output height, output width, kernel height, kernel width, channels] with zeros outside; the mask of taps
    inside; their places in x."""
    ih, iw, ic, oh, ow, _, kh, kw, sh, sw, pt, pl = shape
    y = np.arange(oh)[:, None] * sh - pt + np.arange(kh)
    z = np.arange(ow)[:, None] * sw - pl + np.arange(kw)
    inside = ((y >= 0) & (y < ih))[:, None, :, None] & ((z >= 0) & (z < iw))[None, :, None, :]
    rows, columns = np.clip(y, 0, ih - 1)[:, None, :, None], np.clip(z, 0, iw - 1)[None, :, None, :]
    return np.where(inside[..., None], x.reshape(ih, iw, ic)[rows, columns], 0), inside, (rows, columns)


def scatter(d_patches, shape):
    """The transpose of `patches`."""
    _, inside, (rows, columns) = patches(np.zeros(shape[:3]), shape)
    d_x = np.zeros(shape[:3])
    np.add.at(d_x, (rows, columns), np.where(inside[..., None], d_patches, 0))
    return d_x


def operands(shape, seed, depthwise=False):
    ih, iw, ic, oh, ow, oc, kh, kw = shape[:8]
    rng = np.random.default_rng(seed)
    d_output = rng.standard_normal((oh, ow, oc)).astype(np.float32)
    d_output[rng.random(d_output.shape) < 0.3] = 0  # as an activation's mask leaves them
    x = rng.integers(-128, 128, (ih, iw, ic), np.int8)
    kernel = rng.integers(-127, 128, (kh, kw, oc) if depthwise else (oc, kh, kw, ic), np.int8)
    scales = rng.uniform(1e-3, 1e-1, oc).astype(np.float32)
    channels = np.flatnonzero(rng.random(oc) < 0.6).astype(np.uint16)
    return d_output, x, int(rng.integers(-128, 128)), kernel, scales, channels


def conv_reference(shape, d_output, x, zero_point, kernel, scales, channels):
    d = d_output.astype(np.float64)
    real_kernel = kernel.astype(np.float64) * scales.astype(np.float64)[:, None, None, None]
    d_input = scatter(np.einsum("yxo,oabi->yxabi", d, real_kernel), shape)
    taken, inside, _ = patches(x.astype(np.float64) - zero_point, shape)
    d_kernel = np.einsum("yxo,yxabi->oabi", d, np.where(inside[..., None], taken, 0))[channels]
    return d_input, d_kernel, d.sum((0, 1))[channels]


@pytest.mark.parametrize("name", ["conv", "pointwise"])
@given(data=st.data(), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_convolution(name, data, seed):
    shape = data.draw(windows(pointwise=name == "pointwise"))
    d_output, x, zero_point, kernel, scales, channels = operands(shape, seed)
    d_input, d_kernel, d_bias = conv_reference(shape, d_output, x, zero_point, kernel, scales, channels)
    assert_gradient(getattr(_runtime, f"{name}_backward_input")(d_output, kernel, scales, shape), d_input)
    actual = getattr(_runtime, f"{name}_backward_kernel")(d_output, x, zero_point, channels, shape)
    assert_gradient(actual[0], d_kernel)
    assert_gradient(actual[1], d_bias)


def assert_depthwise(shape, seed):
    d_output, x, zero_point, kernel, scales, channels = operands(shape, seed, depthwise=True)
    d = d_output.astype(np.float64)
    d_input = scatter(np.einsum("yxc,abc->yxabc", d, kernel.astype(np.float64) * scales.astype(np.float64)), shape)
    taken, inside, _ = patches(x.astype(np.float64) - zero_point, shape)
    d_kernel = np.einsum("yxc,yxabc->cab", d, np.where(inside[..., None], taken, 0))[channels]
    assert_gradient(_runtime.depthwise_backward_input(d_output, kernel, scales, shape), d_input)
    actual = _runtime.depthwise_backward_kernel(d_output, x, zero_point, channels, shape)
    assert_gradient(actual[0], d_kernel)
    assert_gradient(actual[1], d.sum((0, 1))[channels])


@given(shape=windows(depthwise=True), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_depthwise(shape, seed):
    assert_depthwise(shape, seed)


# Windows, sides and strides that have code of their own, and some next to them.
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("width", range(3, 9))
@pytest.mark.parametrize("side", range(3, 10))
def test_depthwise_squares(side, width, stride):
    output, pad = -(-side // stride), (width - 1) // 2
    assert_depthwise((side, side, 12, output, output, 12, width, width, stride, stride, pad, pad), seed=side)


@given(shape=windows(pointwise=True), seed=seeds)
@settings(max_examples=30, deadline=None)
def test_planes_are_the_same_bit_for_bit(shape, seed):
    d_output, x, zero_point, kernel, scales, channels = operands(shape, seed)
    np.testing.assert_array_equal(
        _runtime.planes_backward_input(d_output, kernel, scales, shape),
        _runtime.pointwise_backward_input(d_output, kernel, scales, shape),
    )
    for a, b in zip(
        _runtime.planes_backward_kernel(d_output, x, zero_point, channels, shape),
        _runtime.pointwise_backward_kernel(d_output, x, zero_point, channels, shape),
    ):
        np.testing.assert_array_equal(a, b)


@given(shape=windows(depthwise=True), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_average_pool(shape, seed):
    d_output = operands(shape, seed)[0]
    _, inside, _ = patches(np.zeros(shape[:3]), shape)
    weights = inside / inside.sum((2, 3), keepdims=True)
    expected = scatter(np.einsum("yxc,yxab->yxabc", d_output.astype(np.float64), weights), shape)
    assert_gradient(_runtime.average_pool_backward(d_output, shape), expected)


@given(shape=windows(depthwise=True), seed=seeds, levels=st.sampled_from([2, 5, 256]))
@settings(max_examples=60, deadline=None)
def test_max_pool(shape, seed, levels):
    """Few levels make ties: the first of the largest, row by row, has the gradient."""
    d_output = operands(shape, seed)[0]
    x = np.random.default_rng(seed).integers(-(levels // 2), (levels + 1) // 2, shape[:3]).astype(np.int8)
    taken, inside, _ = patches(x.astype(np.int64), shape)
    rows = np.where(inside[..., None], taken, -1000).reshape(*shape[3:5], -1, shape[2])
    first = (np.arange(rows.shape[2])[:, None] == rows.argmax(2)[:, :, None]).reshape(taken.shape)
    expected = scatter(d_output.astype(np.float64)[:, :, None, None] * first, shape)
    assert_gradient(_runtime.max_pool_backward(d_output, x, shape), expected)


@given(side=st.tuples(*[st.integers(1, 6)] * 3), pads=st.tuples(*[st.integers(0, 3)] * 4), seed=seeds)
@settings(max_examples=30, deadline=None)
def test_pad(side, pads, seed):
    (height, width, channels), (top, bottom, left, right) = side, pads
    d_output = np.random.default_rng(seed).standard_normal((top + height + bottom, left + width + right, channels))
    shape = (*side, *d_output.shape, 1, 1, 1, 1, top, left)
    expected = d_output.astype(np.float32)[top : top + height, left : left + width]
    np.testing.assert_array_equal(_runtime.pad_backward(d_output, shape)[0], expected)


def test_large_maps_stay_within_tolerance():
    """The sums of a real layer: 32 x 32 pixels, 64 to 48 channels."""
    shape = (32, 32, 64, 32, 32, 48, 1, 1, 1, 1, 0, 0)
    d_output, x, zero_point, kernel, scales, channels = operands(shape, 1)
    d_input, d_kernel, d_bias = conv_reference(shape, d_output, x, zero_point, kernel, scales, channels)
    assert_gradient(_runtime.pointwise_backward_input(d_output, kernel, scales, shape), d_input)
    actual = _runtime.pointwise_backward_kernel(d_output, x, zero_point, channels, shape)
    assert_gradient(actual[0], d_kernel)
    assert_gradient(actual[1], d_bias)


@pytest.mark.parametrize(
    "window", [(3, 3, 1, 1, 1, 1), (5, 5, 2, 2, 2, 2), (7, 7, 1, 1, 3, 3), (2, 4, 1, 1, 0, 1), (3, 3, 3, 3, 1, 1)]
)
def test_wide_rows(window):
    """Rows longer than a panel."""
    height, width, channels = 9, 71, 5
    output = [
        (size + 2 * pad - kernel) // stride + 1
        for size, kernel, stride, pad in zip((height, width), window[:2], window[2:4], window[4:])
    ]
    shape = (height, width, channels, *output, channels, *window)
    assert_depthwise(shape, seed=4)


def test_pointwise_equals_convolution_bit_for_bit():
    shape = (5, 4, 6, 5, 4, 3, 1, 1, 1, 1, 0, 0)
    d_output, x, zero_point, kernel, scales, channels = operands(shape, 2)
    np.testing.assert_array_equal(
        _runtime.conv_backward_input(d_output, kernel, scales, shape),
        _runtime.pointwise_backward_input(d_output, kernel, scales, shape),
    )
    for a, b in zip(
        _runtime.conv_backward_kernel(d_output, x, zero_point, channels, shape),
        _runtime.pointwise_backward_kernel(d_output, x, zero_point, channels, shape),
    ):
        np.testing.assert_array_equal(a, b)


def test_identity_copies_or_adds():
    a, b = np.float32([1, 2, 3]), np.float32([10, 20, 30])
    np.testing.assert_array_equal(_runtime.identity_backward(a, b, False), [10, 20, 30])
    np.testing.assert_array_equal(_runtime.identity_backward(a, b, True), [11, 22, 33])


def test_activation_stops_at_both_clamps():
    output = np.int8([-128, -128, -127, 0, 125, 126, 127])
    gradient = np.arange(1, 8, dtype=np.float32)
    np.testing.assert_array_equal(_runtime.activation_backward(gradient, output, -128, 126), [0, 0, 3, 4, 5, 0, 0])
    np.testing.assert_array_equal(_runtime.activation_backward(gradient, output, -128, 128), [0, 0, 3, 4, 5, 6, 7])


def cosine(z, prototypes, scale):
    z, prototypes = np.asarray(z, np.float64), np.asarray(prototypes, np.float64)
    unit = prototypes / np.maximum(np.linalg.norm(prototypes, axis=1, keepdims=True), 1e-12)
    return scale * unit @ (z / max(np.linalg.norm(z), 1e-12))


@given(seed=seeds, num_classes=st.integers(2, 20), dimension=st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_prototype_head(seed, num_classes, dimension):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(dimension).astype(np.float32)
    prototypes = rng.standard_normal((num_classes, dimension)).astype(np.float32)
    logits = _runtime.cosine_logits(z, prototypes, 10.0)
    np.testing.assert_allclose(logits, cosine(z, prototypes, 10.0), rtol=0, atol=10 * TOLERANCE)

    label = int(rng.integers(num_classes))
    loss, d_logits = _runtime.softmax_cross_entropy(logits, label)
    exact = np.asarray(logits, np.float64)
    softmax = np.exp(exact - exact.max()) / np.exp(exact - exact.max()).sum()
    assert loss == pytest.approx(-np.log(softmax[label]), rel=TOLERANCE, abs=1e-6)
    assert_gradient(d_logits, softmax - np.eye(num_classes)[label])

    d64, z64, p64 = (np.asarray(a, np.float64) for a in (d_logits, z, prototypes))
    norm = np.linalg.norm(z64)
    d_unit = 10.0 * d64 @ (p64 / np.linalg.norm(p64, axis=1, keepdims=True))
    d_z = (d_unit - z64 / norm * (z64 / norm @ d_unit)) / norm
    actual = _runtime.cosine_backward(d_logits, z, prototypes, 10.0)
    summed = 10.0 * np.abs(d64).sum() / norm  # the terms, which may cancel altogether (one dimension: exactly)
    np.testing.assert_allclose(actual, d_z, rtol=0, atol=TOLERANCE * summed)


def test_cosine_gradient_is_that_of_the_logits():
    rng = np.random.default_rng(3)
    z, prototypes, weights = rng.standard_normal(7), rng.standard_normal((3, 7)), rng.standard_normal(3)
    step = 1e-6
    numeric = [
        (weights @ (cosine(z + step * e, prototypes, 4.0) - cosine(z - step * e, prototypes, 4.0))) / (2 * step)
        for e in np.eye(7)
    ]
    np.testing.assert_allclose(_runtime.cosine_backward(weights, z, prototypes, 4.0), numeric, rtol=0, atol=1e-5)


def test_a_dead_embedding_has_no_gradient():
    prototypes = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(_runtime.cosine_logits(np.zeros(3), prototypes, 10.0), [0, 0])
    np.testing.assert_array_equal(_runtime.cosine_backward([1, -1], np.zeros(3), prototypes, 10.0), [0, 0, 0])


def test_softmax_of_far_logits_is_finite():
    loss, d_logits = _runtime.softmax_cross_entropy([1000.0, -1000.0, 0.0], 1)
    assert loss == pytest.approx(2000.0)
    np.testing.assert_array_equal(d_logits, [1, -1, 0])


def test_exp():
    x = np.concatenate([np.linspace(-86.99, 88, 200001), np.linspace(-1, 1, 20001)]).astype(np.float32)
    np.testing.assert_allclose(_runtime.exp(x), np.exp(np.float64(x)), rtol=2e-7)
    np.testing.assert_array_equal(_runtime.exp(np.float32([0, -100, -np.inf, np.nan])), [1, 0, 0, 0])


def test_log():
    x = np.exp(np.linspace(-80, 80, 200001)).astype(np.float32)
    np.testing.assert_allclose(_runtime.log(x), np.log(np.float64(x)), rtol=2e-7, atol=1e-9)
    near_one = np.linspace(0.5, 2, 200001).astype(np.float32)
    np.testing.assert_allclose(_runtime.log(near_one), np.log(np.float64(near_one)), rtol=3e-7, atol=1e-12)
    assert _runtime.log(np.float32(1)) == 0


def test_rounding_is_numpys():
    x = np.concatenate([np.arange(-20, 20) / 2, [8388607.5, 8388608, 1e20, -1e20]]).astype(np.float32)
    np.testing.assert_array_equal(_runtime.round_to_even(x), np.round(x))
    assert _runtime.quantize_weight(np.nan, 1.0) == -127
    assert [int(_runtime.quantize_weight(v, 2.0)) for v in (-1e9, -1.0, 1.0, 3.0, 1e9)] == [-127, 0, 0, 2, 127]
    assert [int(_runtime.quantize_bias(v, 1.0)) for v in (-1e30, 2.5, 1e30)] == [-(2**30), 2, 2**30]


@given(scale=st.floats(2.0**-20, 1.0, width=32), q=st.integers(-(2**22), 2**22))
def test_a_master_rounds_back_to_what_it_came_from(scale, q):
    master = np.float32(scale) * np.float32(q)
    assert _runtime.quantize_bias(master, scale) == q
    if -127 <= q <= 127:
        assert _runtime.quantize_weight(master, scale) == q
