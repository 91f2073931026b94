"""Views as they are named: what is taken, and what is refused."""

import pytest

from keras_tinytrain.views import checked_views


def test_views_may_leave_out_that_they_are_not_mirrored():
    assert checked_views([(1, -2), (0, 0, 1), [-32767, 3, False]]) == ((1, -2, False), (0, 0, True), (-32767, 3, False))
    assert checked_views(()) == ()


@pytest.mark.parametrize("views", [[(1,)], [(0, 0, 2)], [(0, 0, 0, 0)], [()], [(32768, 0)], [(0, -32768)], [(0, 0)] * 256])
def test_others_are_refused(views):
    with pytest.raises(ValueError, match="views expects at most 255 rows .* Received: "):
        checked_views(views)
