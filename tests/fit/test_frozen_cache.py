"""The cache of the frozen part: the same training, with the frozen part run once per sample."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from models import batch, small_net

from keras_tinytrain import LayerPlan, Plan, TinyTrainCallback
from keras_tinytrain.fit.frozen_cache import FrozenCache, split_for_cache

PLAN = Plan((LayerPlan("project", (1, 4)), LayerPlan("logits", (2,))))


def fitted(model, data, *, cache_frozen, **options):
    """(the model's weights after fit, its history, the callback)."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"], steps_per_execution=2)
    tiny = TinyTrainCallback(plan=PLAN, cache_frozen=cache_frozen, verbose=0)
    history = model.fit(*data, epochs=3, validation_data=batch(seed=5), callbacks=[tiny], verbose=0, **options)
    return model.get_weights(), history.history, tiny


def test_cached_training_is_the_same_and_each_sample_runs_once():
    x, y = batch(count=28)
    options = {"batch_size": 8, "class_weight": {0: 2.0, 1: 0.5, 2: 1.0}}  # four batches, the last one smaller
    results = []
    for cached in (True, False):
        model = keras.Sequential([keras.Input((8, 8, 3)), small_net()])  # a model inside a model
        keras.utils.set_random_seed(3)  # the same shuffling
        results.append(fitted(model, (x, y), cache_frozen=cached, **options))
    (ours, history, tiny), (expected, plain, _) = results
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    for name, values in plain.items():
        assert history[name] == pytest.approx(values, abs=1e-5), name
    assert (tiny.cache.num_computed, tiny.cache.num_read) == (28, 2 * 28)


def test_cache_works_with_tf_data_and_sample_weights():
    x, y = batch(count=16)
    data = tf.data.Dataset.from_tensor_slices((x, y, np.linspace(0, 2, 16, dtype=np.float32))).batch(8)
    (ours, _, tiny), (expected, _, _) = (fitted(small_net(), (data,), cache_frozen=cached) for cached in ("1MB", False))
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    assert tiny.cache.num_computed == 16


def test_features_beyond_the_limit_are_computed_anew():
    frozen, _ = split_for_cache(small_net(), PLAN)
    x = batch(count=6)[0]
    one = frozen(x[:1]).numpy().nbytes
    cache = FrozenCache(frozen, 4 * one)
    for _ in range(2):
        np.testing.assert_allclose(cache(x), frozen(x, training=False), rtol=0, atol=1e-6)
    assert (cache.num_computed, cache.num_read) == (6 + 2, 4)


def test_samples_alike_in_one_batch_run_once():
    frozen, _ = split_for_cache(small_net(), PLAN)
    cache, x = FrozenCache(frozen, 2**20), batch(count=2)[0]
    features = cache(x[[0, 1, 0]]).numpy()
    assert cache.num_computed == 2 and np.array_equal(features[0], features[2]) and not np.array_equal(features[0], features[1])


def test_layers_that_draw_at_random_run_at_every_step():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="first")(image)
    x = keras.layers.Dropout(0.5, name="drop")(x)
    x = keras.layers.Conv2D(4, 3, name="second")(x)
    model = keras.Model(image, keras.layers.Dense(3, name="logits")(keras.layers.GlobalAveragePooling2D()(x)))
    frozen, trained = split_for_cache(model, Plan((LayerPlan("logits", (0,)),)))
    assert frozen.layers[-1].name == "first" and {"drop", "second", "logits"} <= {layer.name for layer in trained.layers}
    flipped = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.RandomFlip(name="flip"), *model.layers[1:]])
    with pytest.raises(ValueError, match="before layer 'flip', which must run at every step"):
        split_for_cache(flipped, Plan((LayerPlan("logits", (0,)),)))


def test_layers_inside_a_layer_that_draw_at_random_run_at_every_step():
    inner = keras.layers.TimeDistributed(keras.layers.Dropout(0.5), name="drops")
    model = keras.Sequential(
        [keras.Input((8, 3)), keras.layers.Dense(4, name="first"), inner, keras.layers.Dense(3, name="logits")]
    )
    frozen, trained = split_for_cache(model, Plan((LayerPlan("logits", (0,)),)))
    assert frozen.layers[-1].name == "first" and "drops" in {layer.name for layer in trained.layers}
