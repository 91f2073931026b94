"""Keyword arguments and attributes of version 0.1 that were renamed since."""

import pytest

from keras_tinytrain import TinyTrainCallback, adapt
from keras_tinytrain._old_names import old_keywords
from keras_tinytrain.choose.strategies import make_task
from keras_tinytrain.export import Candidates


@old_keywords(old="new")
def renamed(*, new=0):
    return new


def test_old_keyword_warns_and_is_passed_on():
    with pytest.warns(DeprecationWarning, match="old= is called new= now") as caught:
        assert renamed(old=3) == 3
    assert caught[0].filename == __file__


def test_new_keyword_does_not_warn(recwarn):
    assert renamed(new=3) == 3 and not recwarn


def test_unknown_keyword_is_a_type_error():
    with pytest.raises(TypeError, match="newer"):
        renamed(newer=3)


@pytest.mark.parametrize("kind", [TinyTrainCallback, Candidates])
def test_inspect_is_a_number_of_blocks_or_names_of_layers(kind):
    with pytest.warns(DeprecationWarning, match="inspect= is called last_blocks= now"):
        assert kind(inspect=3).last_blocks == 3
    with pytest.warns(DeprecationWarning, match="inspect= is called layers= now"):
        assert kind(inspect=["conv"]).layers == ("conv",)


def test_cache_prefix_is_called_cache_frozen():
    with pytest.warns(DeprecationWarning, match="cache_prefix= is called cache_frozen= now"):
        assert TinyTrainCallback(cache_prefix="1MB").cache_frozen == "1MB"


def test_config_of_version_0_1_makes_a_callback():
    config = TinyTrainCallback(last_blocks=3, cache_frozen=True).get_config()
    config["inspect"], config["cache_prefix"] = config.pop("last_blocks"), config.pop("cache_frozen")
    del config["layers"]
    with pytest.warns(DeprecationWarning, match="is called"):
        again = TinyTrainCallback.from_config(config)
    assert (again.last_blocks, again.cache_frozen) == (3, True)


@pytest.mark.parametrize("function", [adapt, make_task])
def test_inspect_still_goes_to_functions(function):
    with (
        pytest.warns(DeprecationWarning, match="inspect= is called last_blocks= now"),
        pytest.raises(TypeError, match="positional"),
    ):
        function(inspect=3)
