"""Views of a sample: forms that are taken, and forms that are refused."""

import pytest

from keras_tinytrain.views import checked_views


def test_view_without_a_third_number_is_not_mirrored():
    assert checked_views([(1, -2), (0, 0, 1), [-32767, 3, False]]) == ((1, -2, False), (0, 0, True), (-32767, 3, False))
    assert checked_views(()) == ()


@pytest.mark.parametrize("views", [[(1,)], [(0, 0, 2)], [(0, 0, 0, 0)], [()], [(32768, 0)], [(0, -32768)], [(0, 0)] * 256])
def test_views_of_another_form_are_refused(views):
    with pytest.raises(ValueError, match="views expects at most 255 rows .* Received: "):
        checked_views(views)
