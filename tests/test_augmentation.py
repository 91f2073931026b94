"""Shifted views against the formula written as loops."""

import numpy as np
import pytest

from keras_tinytrain.fewshot.augmentation import DEFAULT_SHIFTS, default_shifts, shift_views

SHIFTS = [(0, 0), (1, -2), (-3, 2), (9, -9)]  # the last is larger than the image


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float32])
def test_matches_the_formula(dtype):
    images = np.random.default_rng(0).integers(0, 100, (2, 4, 5, 3)).astype(dtype)
    views = shift_views(images, SHIFTS)
    assert views.shape == (4, 2, 4, 5, 3) and views.dtype == dtype
    for view, (dy, dx) in zip(views, SHIFTS):
        for y in range(4):
            for x in range(5):
                source = images[:, min(max(y - dy, 0), 3), min(max(x - dx, 0), 4)]
                np.testing.assert_array_equal(view[:, y, x], source)


def test_commutes_with_quantisation():
    images = np.random.default_rng(0).random((1, 6, 6, 1), np.float32)
    quantise = lambda x: np.clip(np.rint(x * 255) - 128, -128, 127).astype(np.int8)
    np.testing.assert_array_equal(quantise(shift_views(images, SHIFTS)), shift_views(quantise(images), SHIFTS))


def test_default_shifts_are_distinct_and_small():
    for height, width, num_views in [(32, 32, 4), (32, 32, 8), (128, 96, 6)]:
        shifts = np.array(default_shifts(height, width, num_views))
        assert len(np.unique(shifts, axis=0)) == num_views and shifts.any(axis=1).all()
        assert (np.abs(shifts) <= np.array([height, width]) / 8).all()
    assert DEFAULT_SHIFTS == ((3, 3), (3, -3), (-3, -3), (-3, 3))


def test_no_views():
    assert default_shifts(32, 32, 0) == ()


@pytest.mark.parametrize("images, shifts, message", [
    (np.zeros((4, 4, 1)), [(0, 0)], "Expected images"),
    (np.zeros((1, 4, 4, 1)), [0, 1], "Expected images"),
    (np.zeros((1, 4, 4, 1)), [(0.5, 1.0)], "whole pixels"),
])
def test_bad_input(images, shifts, message):
    with pytest.raises(ValueError, match=message):
        shift_views(images, shifts)
