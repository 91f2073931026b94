"""Shifted views against the formula written as loops."""

import keras
import numpy as np
import pytest

from keras_tinytrain.fewshot.augmentation import DEFAULT_SHIFTS, default_shifts, fixed_views, shift_views

SHIFTS = [(0, 0, 0), (1, -2, 0), (-3, 2, 1), (9, -9, 1), (0, 0, 1)]  # (9, -9) is larger than the image


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float32])
def test_shifted_views_match_the_formula(dtype):
    images = np.random.default_rng(0).integers(0, 100, (2, 4, 5, 3)).astype(dtype)
    views = shift_views(images, SHIFTS)
    assert views.shape == (5, 2, 4, 5, 3) and views.dtype == dtype
    for view, (dy, dx, mirrored) in zip(views, SHIFTS):
        for y in range(4):
            for x in range(5):
                column = min(max(x - dx, 0), 4)
                source = images[:, min(max(y - dy, 0), 3), 4 - column if mirrored else column]
                np.testing.assert_array_equal(view[:, y, x], source)
    unmirrored = [(dy, dx) for dy, dx, mirrored in SHIFTS if not mirrored]
    assert np.array_equal(shift_views(images, unmirrored), views[:2])


def test_shifts_commute_with_quantisation():
    images = np.random.default_rng(0).random((1, 6, 6, 1), np.float32)
    quantise = lambda x: np.clip(np.rint(x * 255) - 128, -128, 127).astype(np.int8)
    np.testing.assert_array_equal(quantise(shift_views(images, SHIFTS)), shift_views(quantise(images), SHIFTS))


def test_default_shifts_are_distinct_and_small():
    for height, width, num_views in [(32, 32, 4), (32, 32, 8), (128, 96, 6)]:
        shifts = np.array(default_shifts(height, width, num_views))
        assert len(np.unique(shifts, axis=0)) == num_views and shifts.any(axis=1).all()
        assert (np.abs(shifts) <= np.array([height, width]) / 8).all()
    assert DEFAULT_SHIFTS == ((3, 3), (3, -3), (-3, -3), (-3, 3))


def test_no_shifts_make_no_views():
    assert default_shifts(32, 32, 0) == ()


@pytest.mark.parametrize(
    "images, shifts, message",
    [
        (np.zeros((4, 4, 1)), [(0, 0)], "Expected images"),
        (np.zeros((1, 4, 4, 1)), [0, 1], "Expected images"),
        (np.zeros((1, 4, 4, 1)), [(0.5, 1.0)], "whole pixels"),
    ],
)
def test_shifts_of_wrong_shape_or_type_are_refused(images, shifts, message):
    with pytest.raises(ValueError, match=message):
        shift_views(images, shifts)


CONTRAST = [keras.layers.RandomContrast(0.3, value_range=(0, 1))]


@pytest.mark.parametrize("augment", ["ink", "photo", keras.layers.RandomFlip(), CONTRAST])
def test_fixed_views_repeat_on_every_call_and_differ_from_each_other(augment):
    images = np.random.default_rng(0).random((3, 16, 16, 3)).astype(np.float32)
    views = fixed_views(images, augment, num_views=3, seed=1)
    assert views.shape == (3, *images.shape) and views.dtype == np.float32
    assert np.array_equal(views, fixed_views(images, augment, num_views=3, seed=1))
    assert not np.array_equal(views, fixed_views(images, augment, num_views=3, seed=2))
    assert not np.array_equal(views[0], views[1])


def test_ink_moves_pixels_and_nothing_else():
    image = np.arange(16.0 * 16).reshape(1, 16, 16, 1)
    for view in fixed_views(image, "ink", num_views=8):
        whole_shifts = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]
        assert any(np.array_equal(view, shifted) for shifted in shift_views(image, whole_shifts))


@pytest.mark.parametrize("scale, offset", [(1, 0), (2, -1), (255, 0)])
def test_photo_commutes_with_the_scale_of_pixels(scale, offset):
    images = np.random.default_rng(0).random((2, 8, 8, 3)).astype(np.float32)
    views = fixed_views(images, "photo", num_views=2)
    scaled = fixed_views(scale * images + offset, "photo", num_views=2)
    np.testing.assert_allclose(scaled, scale * views + offset, atol=1e-4 * scale)


def test_function_makes_views_of_its_own():
    images = np.ones((1, 4, 4, 1), np.float32)
    assert np.array_equal(fixed_views(images, lambda x: 2 * x, num_views=2), 2 * np.stack([images, images]))


@pytest.mark.parametrize(
    "augment, message",
    [
        ("sepia", "'photo', 'ink'"),
        (3, "a Keras layer"),
        (lambda x: x[:, 1:], r"each of shape \(1, 4, 4, 1\)"),
    ],
)
def test_unknown_augmentation_is_refused(augment, message):
    with pytest.raises(ValueError, match=message):
        fixed_views(np.zeros((1, 4, 4, 1)), augment)
