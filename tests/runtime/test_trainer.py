"""The trainer: its gradients, steps, memory and deltas, over a network that numpy runs exactly."""

import dataclasses
import struct
import zlib

import numpy as np
import pytest

from keras_tinytrain import _runtime
from keras_tinytrain.export.flash import NorFlash, PowerCut
from tests.runtime.reference import keras_change, prototype_loss, softmax_loss, views_of
from tests.runtime.small_net import NONE, SPLIT, STORED_SAMPLE, samples, small_net

VIEWS = ((1, 0, False), (-2, 3, False))


class Setup:
    """A net, its compiled tables, and trainers over them that hold the samples."""

    def __init__(self, net, folder):
        self.net = net
        self.tables, self.library = net.load(folder)
        self.images, self.labels = samples()

    def trainer(self, add=True, share=True, flash=None, **settings):
        self.net.bound.clear()
        trainer = _runtime.Trainer(self.tables, self.net.run_trainable, self.net.run_frozen, self.net.bind, settings=settings,
                                   owner=self.library, share=share, flash=flash)
        for image, label in zip(self.images, self.labels):
            if add:
                trainer.add_sample(image, label)
        return trainer

    def gradients(self, iteration=0):
        """Mean loss and mean gradients in float64 of the weights that are bound now."""
        stored = [[self.net.run_frozen(view) for view in views_of(image, self.net.views)] for image in self.images]
        net, last, count = self.net, len(self.net.tensors) - 1, len(self.images)
        embed = lambda x: net.real(last, net.forward(x)[last]).reshape(-1)
        prototypes = np.stack([np.mean([embed(s[0]) for s, l in zip(stored, self.labels) if l == k], axis=0) for k in range(3)])
        total, sums = 0.0, None
        for sample, label in zip(stored, self.labels):
            values = net.forward(sample[1 + iteration % len(net.views) if net.views else 0])
            z = net.real(last, values[last]).reshape(-1)
            loss, d_z = prototype_loss(z, prototypes, label) if net.head == "prototypes" else softmax_loss(z, label)
            total += loss
            found = net.backward(values, d_z)
            sums = found if sums is None else {
                i: (sums[i][0] + found[i][0], None if found[i][1] is None else sums[i][1] + found[i][1]) for i in found}
        return total / count, {i: (k / count, None if b is None else b / count) for i, (k, b) in sums.items()}, prototypes


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    return Setup(small_net(), tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def by_channel(tmp_path_factory):
    return Setup(small_net(by_channel=3), tmp_path_factory.mktemp("by_channel"))


@pytest.fixture(scope="module")
def with_views(tmp_path_factory):
    return Setup(dataclasses.replace(small_net(), views=VIEWS, bound={}), tmp_path_factory.mktemp("views"))


@pytest.fixture(scope="module")
def thin_views(tmp_path_factory):
    """Little is trained of it: an image and its features take more than all gradients, so that they make the scratch."""
    net = dataclasses.replace(small_net(), views=VIEWS, bound={}, trained={10: [0, 2]})
    stop_gradients(net)
    for tensor in net.tensors:
        tensor.gradient_offset -= 0 if tensor.gradient_offset == NONE else net.tensors[-1].gradient_offset
    return Setup(net, tmp_path_factory.mktemp("thin"))


@pytest.fixture(scope="module")
def softmax(tmp_path_factory):
    return Setup(small_net("softmax"), tmp_path_factory.mktemp("softmax"))


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return Setup(dataclasses.replace(small_net(), split=SPLIT, bound={}), tmp_path_factory.mktemp("split"))


@pytest.fixture(scope="module")
def picking(tmp_path_factory):
    return Setup(small_net(picking=True), tmp_path_factory.mktemp("picking"))


def all_of(trainer, method):
    """Every trained layer's (kernel, bias) in one flat float64 array."""
    parts = [getattr(trainer, method)(i) for i in range(trainer.num_trained)]
    return np.concatenate([np.asarray(a, np.float64).reshape(-1) for pair in parts for a in pair if a is not None])


def int8_weights(trainer):
    return [(trainer.kernel(i), trainer.bias(i)) for i in range(trainer.num_trained)]


def assert_same_weights(a, b):
    for (kernel_a, bias_a), (kernel_b, bias_b) in zip(a, b):
        np.testing.assert_array_equal(kernel_a, kernel_b)
        np.testing.assert_array_equal(bias_a, bias_b)


# ---- gradients -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("which", ["setup", "by_channel", "with_views", "softmax", "split", "picking"])
def test_mean_gradients_equal_float64(which, request):
    """1e-5 of the largest magnitude in each tensor."""
    setup = request.getfixturevalue(which)
    trainer = setup.trainer(learning_rate=0.0)
    for iteration in range(3):
        loss, expected, prototypes = setup.gradients(iteration)
        assert trainer.compute_gradients() == pytest.approx(loss, rel=1e-5)
        if setup.net.head == "prototypes":
            np.testing.assert_allclose(trainer.prototypes(), prototypes, rtol=0, atol=1e-5 * np.abs(prototypes).max())
        for index, layer in enumerate(setup.net.trained):
            kernel, bias = trainer.weight_gradients(index)
            assert np.abs(expected[layer][0]).max() > 0
            np.testing.assert_allclose(kernel, expected[layer][0], rtol=0, atol=1e-5 * np.abs(expected[layer][0]).max())
            if bias is not None:
                np.testing.assert_allclose(bias, expected[layer][1], rtol=0, atol=1e-5 * np.abs(expected[layer][1]).max())
        trainer.step()


def test_gradients_follow_weights_that_have_moved(setup):
    trainer = setup.trainer(learning_rate=0.5)
    for _ in range(3):
        trainer.step()
    loss, expected, _ = setup.gradients()
    assert trainer.compute_gradients() == pytest.approx(loss, rel=1e-5)
    kernel, _ = trainer.weight_gradients(0)
    np.testing.assert_allclose(kernel, expected[0][0], rtol=0, atol=1e-5 * np.abs(expected[0][0]).max())


# What of the bottleneck is trained: all of it; its parts; nothing of it; and layers so late that no gradient leaves it.
@pytest.mark.parametrize("trained", [(0, 1, 2, 3), (0, 1), (0, 2), (0, 3), (0, 10), (1, 2), (1,), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("planes", [1, 3, 8])
def test_by_channel_is_the_same_bit_for_bit(trained, planes, tmp_path):
    gradients = []
    for by_channel in (0, planes):
        net = small_net(by_channel=by_channel)
        net.trained = {index: channels for index, channels in net.trained.items() if index in trained}
        stop_gradients(net)
        (tmp_path / str(by_channel)).mkdir()
        setup = Setup(net, tmp_path / str(by_channel))
        trainer = setup.trainer(learning_rate=0.3)
        for _ in range(3):
            trainer.step()
        gradients.append([trainer.weight_gradients(i) for i in range(trainer.num_trained)])
        gradients[-1].append(trainer.memory_parts()["activation_gradients"])
    assert gradients[1].pop() < gradients[0].pop()
    for (kernel, bias), (same_kernel, same_bias) in zip(*gradients, strict=True):
        assert kernel.any() and kernel.tobytes() == same_kernel.tobytes()
        assert bias is None or bias.tobytes() == same_bias.tobytes()


def stop_gradients(net):
    """No gradient for what no trained layer is behind, as the exporter does."""
    reached = set()
    for index, layer in enumerate(net.layers):
        if index in net.trained or reached.intersection((layer.input, layer.input2)):
            reached.add(layer.output)
    for index, tensor in enumerate(net.tensors):
        if index not in reached:
            tensor.gradient_offset, tensor.num_planes = NONE, 0


@pytest.mark.parametrize("which", ["setup", "by_channel"])
def test_split_layers_learn_the_same_bit_for_bit(which, request, tmp_path):
    """Whether RAM holds whole layers or their trained channels: the same losses and deltas, in fewer bytes."""
    whole = request.getfixturevalue(which)
    split = Setup(dataclasses.replace(whole.net, split=SPLIT, bound={}), tmp_path)
    learned, used = [], []
    for setup in (whole, split):
        trainer = setup.trainer(learning_rate=0.3, iterations=3)
        losses = []
        trainer.train(lambda iteration, loss: losses.append(loss))
        learned.append((losses, trainer.save_delta(), trainer.predict(setup.images[0])[1].tobytes()))
        used.append(trainer.memory_parts()["weights"])
        trainer.revert()
        trainer.load_delta(learned[-1][1])
        assert trainer.save_delta() == learned[-1][1]
        assert trainer.predict(setup.images[0])[1].tobytes() == learned[-1][2]
    assert learned[0] == learned[1]
    saved = sum(sizes_in_ram(whole.net, index, None) - sizes_in_ram(whole.net, index, whole.net.trained[index]) for index in SPLIT)
    assert used[0] - used[1] == saved > 0


def sizes_in_ram(net, index, channels):
    """Bytes of all or of some output channels of a layer, each buffer rounded up to 16."""
    layer = net.layers[index]
    count = len(layer.kernel) if channels is None else len(channels)
    sizes = [count * layer.kernel[0].size, 0 if layer.bias is None else 4 * count]
    return sum(-(-size // 16) * 16 for size in sizes)


def test_split_reads_back_what_was_in_flash(split):
    trainer, net = split.trainer(learning_rate=0.3, iterations=2), split.net
    trainer.train()
    trainer.revert()
    for index, (layer, channels) in enumerate(net.trained.items()):
        rows = net.layers[layer].kernel[channels] if layer in SPLIT else net.layers[layer].kernel
        np.testing.assert_array_equal(trainer.kernel(index), rows.reshape(-1))


@pytest.mark.parametrize("mirrored", [False, True])
def test_views_are_shifts_with_clamped_edges(mirrored, tmp_path):
    views = tuple((y, x, mirrored) for y, x in ((1, 0), (-2, 3), (0, -40)))
    setup = Setup(dataclasses.replace(small_net(), views=views, bound={}), tmp_path)
    trainer = setup.trainer()
    for view, image in enumerate(views_of(setup.images[2], views)):
        np.testing.assert_array_equal(trainer.stored_sample(2, view)[0], setup.net.run_frozen(image))


# ---- steps ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("optimizer, learning_rate", [("sgd", 0.3), ("momentum", 0.1), ("adam", 0.01)])
def test_steps_are_keras_steps(setup, optimizer, learning_rate):
    trainer = setup.trainer(optimizer=optimizer, learning_rate=learning_rate)
    expected, state = all_of(trainer, "masters"), {}
    for _ in range(4):
        trainer.step()
        gradients = all_of(trainer, "weight_gradients")
        expected = expected + keras_change(optimizer, gradients, learning_rate, state)
        np.testing.assert_allclose(all_of(trainer, "masters"), expected, rtol=1e-5, atol=1e-6)
        for index, (layer, channels) in enumerate(setup.net.trained.items()):
            check_rounding(setup.net.layers[layer], setup.net.tensors, channels, trainer, index)


def check_rounding(layer, tensors, channels, trainer, index):
    """The int8 kernel and int32 bias are the rounded masters; unselected channels are the flash's, bit for bit."""
    kernel, bias = layer.kernel.copy(), None if layer.bias is None else layer.bias.copy()
    masters, bias_masters = trainer.masters(index)
    rows = kernel.reshape(-1, kernel.shape[-1]).T if layer.op == "depthwise" else kernel.reshape(len(kernel), -1)
    for n, channel in enumerate(channels):
        rows[channel] = np.clip(np.round(masters[n] / layer.scales[channel]), -127, 127)
        if bias is not None:
            bias[channel] = np.round(bias_masters[n] / (np.float32(tensors[layer.input].scale) * layer.scales[channel]))
    np.testing.assert_array_equal(trainer.kernel(index), kernel.reshape(-1))
    np.testing.assert_array_equal(trainer.bias(index), bias)


def test_bound_arrays_are_the_arena_itself(setup):
    trainer = setup.trainer(learning_rate=0.5)
    trainer.step()
    for index, layer in enumerate(setup.net.trained):
        np.testing.assert_array_equal(setup.net.bound[100 + layer], trainer.kernel(index))
        assert not setup.net.bound[100 + layer].flags.writeable
        assert np.shares_memory(setup.net.bound[100 + layer], trainer.arena)


@pytest.mark.parametrize("which", ["setup", "with_views", "softmax"])
def test_training_lowers_the_loss(which, request):
    setup = request.getfixturevalue(which)
    trainer = setup.trainer(optimizer="adam", learning_rate=0.01, iterations=25)
    losses = []
    trainer.train(lambda iteration, loss: losses.append(loss))
    assert len(losses) == 25 and losses[-1] < 0.7 * losses[0]
    predicted = [trainer.predict(image)[0] for image in setup.images]
    assert np.mean(np.array(predicted) == setup.labels) >= 5 / 6


def test_progress_stops_the_training(setup):
    trainer = setup.trainer(iterations=10)
    trainer.train(lambda iteration, loss: iteration < 2)
    assert trainer.iteration == 3
    assert trainer.prototypes() is not None


def test_predict_gives_the_cosine_logits(setup):
    trainer = setup.trainer()
    trainer.update_prototypes()
    label, logits = trainer.predict(setup.images[4])
    last = len(setup.net.tensors) - 1
    z = setup.net.real(last, setup.net.forward(setup.net.run_frozen(setup.images[4]))[last]).reshape(-1)
    unit = trainer.prototypes() / np.linalg.norm(trainer.prototypes(), axis=1, keepdims=True)
    np.testing.assert_allclose(logits, 10 * unit @ z / np.linalg.norm(z), rtol=0, atol=1e-4)
    assert label == np.argmax(logits)


# ---- memory --------------------------------------------------------------------------------------------------------------

def align16(x):
    return -(-int(x) // 16) * 16


def promised_parts(net, optimizer, *, num_classes=3, max_samples=8, masters=True, leave_one_out=False, kept=False,
                   average=False, in_flash=False):
    """The formulas of the header, by themselves; `kept`: the samples' own embeddings are."""
    elements = lambda t: int(np.prod(net.tensors[t].shape))
    per_channel = lambda i: net.layers[i].kernel.size // net.tensors[net.layers[i].output].shape[2]
    has_bias = lambda i: net.layers[i].bias is not None
    num_weights = sum(len(c) * (per_channel(i) + has_bias(i)) for i, c in net.trained.items())
    num_runs = sum(len(c) * (1 + has_bias(i)) for i, c in net.trained.items())
    dimension = elements(-1)
    state = {
        "samples": (0 if in_flash else align16(max_samples * (1 + len(net.views)) * elements(0))) + align16(max_samples),
        "weights": sum(align16(net.layers[i].kernel.size) + (align16(4 * net.layers[i].bias.size) if has_bias(i) else 0)
                       for i in net.trained),
        "plan": 0,
        "masters": align16(4 * num_weights) if masters else 0,
        "optimizer": align16(4 * {"sgd": 0, "momentum": num_weights, "adam": 2 * num_weights,
                                  "adam_per_channel": num_weights + num_runs}[optimizer]),
        "prototypes": 0 if net.head == "softmax" else (1 + average) * align16(4 * num_classes * dimension),
    }
    frozen = {
        "features": -(-elements(0) // 256) * 256 if in_flash else align16(elements(0)),
        "image": align16(np.prod(net.image_shape)) if net.views else 0,
    }
    training = {
        "weight_gradients": align16(4 * num_weights),
        "activation_gradients": align16(net.gradient_bytes),
        "head": align16(4 * num_classes) + (0 if net.head == "softmax" else
        align16(4 * num_classes) + align16(4 * dimension) + leave_one_out * align16(4 * dimension)
        + kept * align16(max_samples * dimension) + average * align16(4 * num_classes)),
    }
    gradients = training["weight_gradients"] + training["activation_gradients"]
    scratch = max(sum(frozen.values()), max(gradients, frozen["features"]) + training["head"])
    lasting = sum(state.values())
    return {**state, "state": lasting, **frozen, **training, "scratch": scratch, "total": lasting + scratch}


@pytest.mark.parametrize("which", ["setup", "with_views", "thin_views", "softmax"])
@pytest.mark.parametrize("in_flash", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adam_per_channel"])
@pytest.mark.parametrize("settings, changes", [
    ({}, {}), ({"weights": "int8"}, {"masters": False}), ({"average": 0.25}, {"average": True}),
    ({"leave_one_out": True}, {"leave_one_out": True}),
    ({"leave_one_out": True, "updates": "immediate"}, {"leave_one_out": True, "kept": True})], ids=str)
def test_bytes_promised_are_bytes_needed(which, optimizer, settings, changes, in_flash, request):
    setup = request.getfixturevalue(which)
    if setup.net.views and settings == {"leave_one_out": True}:
        changes = {**changes, "kept": True}
    expected = promised_parts(setup.net, optimizer, in_flash=in_flash, **changes)
    settings = {"optimizer": optimizer, **settings}
    assert _runtime.required_bytes(setup.tables, settings, in_flash) == expected
    flash = NorFlash(_runtime.flash_samples_bytes(setup.tables), page_bytes=512) if in_flash else None
    for share, arena in ((True, "state"), (False, "total")):
        trainer = setup.trainer(share=share, flash=flash, **settings)
        assert trainer.memory_parts() == expected
        assert trainer.arena.nbytes == expected[arena]


def aligned_arena(num_bytes, offset=0):
    padded = np.zeros(num_bytes + 32, np.uint8)
    start = -padded.ctypes.data % 16 + offset
    return padded[start:start + num_bytes]


@pytest.mark.parametrize("settings", [
    {}, {"leave_one_out": True, "average": 0.5},
    {"leave_one_out": True, "average": 0.5, "weights": "int8", "updates": "immediate", "optimizer": "adam_per_channel"},
], ids=len)
def test_arena_is_checked_and_never_overrun(setup, settings):
    total = _runtime.required_bytes(setup.tables, settings)["state"]
    with pytest.raises(ValueError, match=f"received {total - 1} bytes, required {total}"):
        _runtime.Trainer(setup.tables, setup.net.run_trainable, setup.net.run_frozen, settings=settings,
                         arena=aligned_arena(total - 1))
    with pytest.raises(ValueError, match="not aligned"):
        _runtime.Trainer(setup.tables, setup.net.run_trainable, setup.net.run_frozen, settings=settings,
                         arena=aligned_arena(total, 8))
    guarded = aligned_arena(total + 64)
    guarded[total:] = 0xA5
    trainer = _runtime.Trainer(setup.tables, setup.net.run_trainable, setup.net.run_frozen, setup.net.bind, settings=settings,
                               arena=guarded)
    for image, label in zip(setup.images, setup.labels):
        trainer.add_sample(image, label)
    trainer.train()
    trainer.predict(setup.images[0])
    assert (guarded[total:] == 0xA5).all()


def learn(trainer, setup):
    """Everything that a life of a trainer leads to: losses, weights, prototypes, and what it predicts before and after more."""
    losses = []
    trainer.train(lambda iteration, loss: losses.append(loss))
    first = [trainer.predict(image)[1] for image in setup.images]
    trainer.clear_samples()
    for image, label in zip(setup.images[::-1], setup.labels[::-1]):
        trainer.add_sample(image, label)
    trainer.train(lambda iteration, loss: losses.append(loss))
    last = [trainer.predict(image)[1] for image in setup.images]
    return trainer.save_delta(), losses, np.array(first).tobytes(), np.array(last).tobytes()


@pytest.mark.parametrize("which", ["setup", "by_channel", "with_views", "thin_views", "softmax"])
def test_memory_that_the_frozen_part_overwrites_and_flash_change_nothing(which, request):
    setup = request.getfixturevalue(which)
    settings = {"optimizer": "adam", "learning_rate": 0.02}
    alone = learn(setup.trainer(share=False, **settings), setup)
    assert learn(setup.trainer(share=True, **settings), setup) == alone
    flash = NorFlash(-(-_runtime.flash_samples_bytes(setup.tables) // 768) * 768, page_bytes=768)
    assert learn(setup.trainer(flash=flash, **settings), setup) == alone
    used = 6 * (1 + len(setup.net.views)) * 256  # of room for eight samples, six were stored, twice
    assert flash.num_erases == [2 if page * 768 < used else 0 for page in range(flash.data.size // 768)]


# ---- flash ---------------------------------------------------------------------------------------------------------------

def test_features_in_flash_are_the_frozen_parts_output(with_views):
    flash = NorFlash(8 * 3 * 256, page_bytes=1024)
    trainer = with_views.trainer(flash=flash)
    for view, image in enumerate(views_of(with_views.images[5], VIEWS)):
        features = with_views.net.run_frozen(image)
        np.testing.assert_array_equal(trainer.stored_sample(5, view)[0], features)
        at = (5 * 3 + view) * 256
        assert flash.data[at:at + 256].tobytes() == features.tobytes() + bytes(256 - features.size)
    assert (flash.data[6 * 3 * 256:5 * 1024] == 0xFF).all() and (flash.data[5 * 1024:] == 0xA5).all()


def test_flash_that_does_not_fit_is_refused(setup):
    for flash in (NorFlash(7 * 256, page_bytes=256), NorFlash(2048, page_bytes=2048 - 128)):
        with pytest.raises(ValueError, match="flash is too small, or not made of whole pages"):
            setup.trainer(flash=flash)


def test_a_failed_write_spoils_no_sample(setup):
    flash = NorFlash(8 * 256, page_bytes=2048)
    trainer = setup.trainer(add=False, flash=flash)
    trainer.add_sample(setup.images[0], 0)
    flash.cut_power_after(100)
    with pytest.raises(PowerCut):
        trainer.add_sample(setup.images[1], 1)
    flash.power_on()
    with pytest.raises(RuntimeError, match="call ClearSamples"):  # half written, and not to be erased alone
        trainer.add_sample(setup.images[1], 1)
    assert trainer.num_samples == 1
    np.testing.assert_array_equal(trainer.stored_sample(0)[0], setup.net.run_frozen(setup.images[0]))
    trainer.clear_samples()
    for image, label in zip(setup.images, setup.labels):
        trainer.add_sample(image, label)
    trainer.train()


def test_nor_flash_is_as_strict_as_the_real_one():
    flash = NorFlash(1024, page_bytes=512)
    with pytest.raises(RuntimeError, match="not erased"):
        flash.write(0, bytes(256))
    flash.erase(0)
    flash.write(256, bytes(range(256)))
    assert flash.data[:512].tobytes() == b"\xff" * 256 + bytes(range(256))
    for offset, block in ((256, bytes(256)), (100, bytes(256)), (0, bytes(8)), (1024, bytes(256))):
        with pytest.raises(RuntimeError):
            flash.write(offset, block)
    with pytest.raises(RuntimeError, match="begins no page"):
        flash.erase(256)


# ---- misuse --------------------------------------------------------------------------------------------------------------

def test_wrong_labels_and_too_many_samples(setup):
    trainer = setup.trainer(add=False, max_samples=2)
    for label in (-1, 3):
        with pytest.raises(ValueError, match="label"):
            trainer.add_sample(setup.images[0], label)
    trainer.add_sample(setup.images[0], 0)
    trainer.add_sample(setup.images[1], 1)
    with pytest.raises(RuntimeError, match="max_samples"):
        trainer.add_sample(setup.images[2], 2)
    with pytest.raises(RuntimeError, match="every class"):
        trainer.step()
    trainer.clear_samples()
    assert trainer.num_samples == 0
    with pytest.raises(RuntimeError, match="every class"):
        trainer.train()


def test_images_of_another_type_or_size(setup):
    trainer = setup.trainer(add=False)
    with pytest.raises(ValueError, match="int8 numpy array, received float64"):
        trainer.add_sample(setup.images[0].astype(float), 0)
    with pytest.raises(ValueError, match="480 elements, received 20"):
        trainer.add_sample(np.zeros(20, np.int8), 0)


def test_no_prototypes_yet(setup):
    trainer = setup.trainer()
    with pytest.raises(RuntimeError, match="no prototypes yet"):
        trainer.predict(setup.images[0])
    with pytest.raises(RuntimeError, match="no prototypes yet"):
        trainer.save_delta()


@pytest.mark.parametrize("settings", [
    {"learning_rate": -1.0}, {"learning_rate": float("nan")}, {"optimizer": "adam", "beta_2": 1.0},
    {"optimizer": "adam", "epsilon": 0.0}, {"optimizer": "momentum", "momentum": 1.5}, {"num_classes": 0}, {"num_classes": 256},
    {"max_samples": 0}, {"iterations": -1}, {"logit_scale": 0.0}, {"max_samples": 2**31 - 1}, {"average": -0.1},
    {"average": 1.1}, {"average": float("nan")}, {"optimizer": "adam_per_channel", "epsilon": 0.0}])
def test_settings_out_of_range(setup, settings):
    with pytest.raises(ValueError, match="setting is out of range"):
        setup.trainer(**settings)


def test_unknown_setting(setup):
    with pytest.raises(ValueError, match="unknown setting 'lr'"):
        setup.trainer(lr=1.0)
    with pytest.raises(ValueError, match="weights must be one of float_masters, int8, received float16"):
        setup.trainer(weights="float16")


def test_softmax_needs_as_many_classes_as_outputs(softmax):
    with pytest.raises(ValueError, match="setting is out of range"):
        softmax.trainer(num_classes=2)


def test_exceptions_of_the_model_come_out(setup):
    def broken(features):
        raise KeyError("from the model")

    trainer = _runtime.Trainer(setup.tables, broken, setup.net.run_frozen)
    for image, label in zip(setup.images, setup.labels):
        trainer.add_sample(image, label)
    with pytest.raises(KeyError, match="from the model"):
        trainer.step()
    trainer = _runtime.Trainer(setup.tables, lambda x: setup.net.run_trainable(x)[:-1], setup.net.run_frozen)
    for image, label in zip(setup.images, setup.labels):
        trainer.add_sample(image, label)
    with pytest.raises(ValueError, match="must return 7 arrays, received 6"):
        trainer.step()


def break_tensor(index, **changes):
    return lambda net: net.tensors.__setitem__(index, dataclasses.replace(net.tensors[index], **changes))


def break_layer(index, **changes):
    return lambda net: net.layers.__setitem__(index, dataclasses.replace(net.layers[index], **changes))


def break_planes(num_planes):
    """Of a middle that could go by channel; it has 8."""
    def change(net):
        net.tensors[2].num_planes, net.tensors[3].num_planes = num_planes, 1
    return change


def replace_trained(**changes):
    return lambda net: net.trained.update({int(k[1:]): v for k, v in changes.items()})


@pytest.mark.parametrize("change", [
    break_tensor(3, shape=(6, 5, 9)), break_tensor(3, scale=0.0), break_tensor(3, scale=-0.1), break_tensor(3, zero_point=200),
    break_tensor(3, kept=STORED_SAMPLE), break_tensor(3, kept=NONE), break_tensor(0, kept=NONE),
    break_tensor(5, kept=NONE), break_tensor(2, gradient_offset=2), break_tensor(2, gradient_offset=-8),
    break_tensor(3, num_planes=1), break_tensor(2, num_planes=1), break_planes(9), break_planes(17), break_planes(-1),
    break_tensor(6, num_planes=1), break_tensor(8, num_planes=1), break_tensor(11, num_planes=1), break_tensor(0, num_planes=1),
    break_tensor(2, gradient_offset=0), break_tensor(1, gradient_offset=NONE), break_tensor(11, gradient_offset=NONE),
    break_tensor(8, gradient_offset=NONE), break_tensor(0, gradient_offset=0), break_tensor(1, shape=(0, 5, 6)),
    break_layer(1, input=12), break_layer(1, input=-1), break_layer(1, input=5), break_layer(1, output=3),
    break_layer(4, input2=NONE), break_layer(4, input2=6), break_layer(1, input2=0), break_layer(1, accumulate=(False, False)),
    break_layer(3, accumulate=(True, False)), break_layer(4, accumulate=(False, True)),
    break_layer(2, window=(3, 3, 1, 1, 3, 1)), break_layer(2, window=(3, 3, 2, 1, 1, 1)),
    break_layer(2, window=(3, 0, 1, 1, 1, 0)), break_layer(2, window=(3, 3, 0, 1, 1, 1)), break_layer(10, kernel=None),
    break_layer(0, scales=np.zeros(6, np.float32)),
    replace_trained(_0=[3, 0]), replace_trained(_0=[3, 3]), replace_trained(_0=[6]), replace_trained(_4=[0])])
def test_tables_that_cannot_work_are_refused(change, tmp_path):
    net = small_net()
    change(net)
    tables, library = net.load(tmp_path)
    assert _runtime.check_tables(tables) == "an index, size or pointer in the tables is out of range"
    with pytest.raises(ValueError, match="in the tables is out of range"):
        _runtime.Trainer(tables, net.run_trainable, net.run_frozen, owner=library)


# ---- deltas --------------------------------------------------------------------------------------------------------------

@pytest.fixture
def learned(setup):
    trainer = setup.trainer(optimizer="adam", learning_rate=0.02, iterations=2)
    trainer.train()
    return trainer


def with_crc(data):
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def test_crc_is_zlibs():
    data = bytes(range(256)) * 3
    assert _runtime.crc32(data) == zlib.crc32(data)
    assert _runtime.crc32(data[100:], _runtime.crc32(data[:100])) == zlib.crc32(data)


def test_delta_brings_back_what_was_learned(setup, learned):
    delta = learned.save_delta(sequence=7)
    assert len(delta) == learned.delta_bytes()
    weights, logits, prototypes = int8_weights(learned), learned.predict(setup.images[0])[1], learned.prototypes()
    fresh = setup.trainer(add=False)
    before = int8_weights(fresh)
    fresh.load_delta(delta + b"\xff" * 9)  # the rest of an erased flash slot
    assert_same_weights(int8_weights(fresh), weights)
    np.testing.assert_array_equal(fresh.prototypes(), prototypes)
    np.testing.assert_array_equal(fresh.predict(setup.images[0])[1], logits)
    assert fresh.save_delta(sequence=7) == delta
    fresh.revert()
    assert_same_weights(int8_weights(fresh), before)
    assert fresh.prototypes() is None and fresh.iteration == 0


def test_revert_and_training_again_is_the_same(setup, learned):
    delta = learned.save_delta()
    learned.revert()
    learned.train()
    assert learned.save_delta() == delta


def test_delta_is_as_documented(setup, learned):
    delta = learned.save_delta(sequence=0x01020304)
    magic, version, num_records, sequence, length = struct.unpack_from("<4sHHII", delta)
    assert (magic, version, sequence, length) == (b"TTDL", 1, 0x01020304, len(delta))
    assert num_records == len(setup.net.trained) + 1
    assert delta[16:48] == setup.net.base_hash
    assert struct.unpack("<I", delta[-4:])[0] == zlib.crc32(delta[:-4])
    offset = 48
    for index, (layer, channels) in enumerate(setup.net.trained.items()):
        size = delta[offset]
        assert delta[offset + 1:offset + 1 + size].decode() == f"layer_{layer}"
        kind, has_bias, num_values, num_channels = struct.unpack_from("<BBIH", delta, offset + 1 + size)
        offset += 1 + size + 8
        x = setup.net.layers[layer]
        assert (kind, has_bias, num_channels) == (1, x.bias is not None, len(channels))
        assert list(np.frombuffer(delta, "<u2", num_channels, offset)) == channels
        offset += 2 * num_channels
        values = np.frombuffer(delta, np.int8, num_channels * num_values, offset).reshape(num_channels, num_values)
        kernel = learned.kernel(index).reshape(x.kernel.shape)
        rows = kernel.reshape(-1, kernel.shape[-1]).T if x.op == "depthwise" else kernel.reshape(len(kernel), -1)
        np.testing.assert_array_equal(values, rows[channels])
        offset += values.size
        if has_bias:
            np.testing.assert_array_equal(np.frombuffer(delta, "<i4", num_channels, offset), learned.bias(index)[channels])
            offset += 4 * num_channels
    assert delta[offset:offset + 11] == b"\x0aprototypes"
    assert struct.unpack_from("<BBIH", delta, offset + 11) == (0, 0, 7, 3)
    np.testing.assert_array_equal(np.frombuffer(delta, "<f4", 21, offset + 19 + 6).reshape(3, 7), learned.prototypes())
    assert offset + 19 + 6 + 84 + 4 == len(delta)


def test_cut_deltas_are_refused_at_every_length(setup, learned):
    delta, before = learned.save_delta(), int8_weights(learned)
    for length in range(len(delta)):
        with pytest.raises(ValueError, match="cut short"):
            learned.load_delta(delta[:length])
        erased = delta[:length] + b"\xff" * (len(delta) - length)  # the same cut inside a flash slot
        if erased != delta:
            with pytest.raises(ValueError, match="cut short"):
                learned.load_delta(erased)
    assert_same_weights(int8_weights(learned), before)


def test_any_flipped_bit_is_refused(setup, learned):
    delta, before = learned.save_delta(), int8_weights(learned)
    for position in range(len(delta)):
        broken = bytearray(delta)
        broken[position] ^= 1 << (position % 8)
        with pytest.raises(ValueError):
            learned.load_delta(bytes(broken))
    assert_same_weights(int8_weights(learned), before)


def test_records_that_lie_are_refused_behind_a_good_crc(setup, learned):
    """Every byte of the records set to extremes, CRC made good again: refused, or loaded as the values that they then are."""
    delta = learned.save_delta()
    state = learned.save_delta()
    for position in [6, 7, *range(48, len(delta) - 4)]:
        for value in (0, 0x7F, 0xFF):
            broken = bytearray(delta)
            broken[position] = value
            try:
                learned.load_delta(with_crc(bytes(broken)))
            except ValueError:
                assert learned.save_delta() == state  # nothing was changed
            learned.load_delta(delta)


def test_foreign_deltas_are_refused(setup, learned):
    delta = learned.save_delta()
    with pytest.raises(ValueError, match="another base model"):
        learned.load_delta(with_crc(delta[:16] + bytes(32) + delta[48:]))
    with pytest.raises(ValueError, match="another base model"):
        learned.load_delta(with_crc(delta.replace(b"layer_0", b"layer_X")))
    with pytest.raises(ValueError, match="another version"):
        learned.load_delta(with_crc(delta[:4] + b"\x63\x00" + delta[6:]))
    other = setup.trainer(add=False, num_classes=4)
    with pytest.raises(ValueError, match="another base model"):
        other.load_delta(delta)


def test_float_deltas_are_read(setup):
    """As Python's Delta writes them: one channel of one layer; the rest stays the flash's."""
    trainer = setup.trainer()
    before = int8_weights(trainer)
    layer = setup.net.layers[3]  # 1 x 1 convolution without bias, channel 2 trained
    values = (layer.kernel[2].reshape(-1) // 2 * layer.scales[2]).astype(np.float32)
    record = b"\x07layer_3" + struct.pack("<BBIHH", 0, 0, values.size, 1, 2) + values.tobytes()
    header = struct.pack("<4sHHII", b"TTDL", 1, 1, 0, 48 + len(record) + 4) + setup.net.base_hash
    trainer.load_delta(with_crc(header + record + bytes(4)))
    expected = layer.kernel.copy()
    expected[2] = layer.kernel[2] // 2
    np.testing.assert_array_equal(trainer.kernel(3), expected.reshape(-1))
    np.testing.assert_array_equal(trainer.masters(3)[0][0], values)
    assert_same_weights(int8_weights(trainer)[:3], before[:3])
    assert trainer.prototypes() is None


def test_power_cut_at_any_byte_leaves_the_old_or_the_new(learned):
    old, new = learned.save_delta(sequence=0xFFFFFFFF), learned.save_delta(sequence=0)  # the sequence number wraps
    slots = old, b"\xff" * len(old)
    assert _runtime.newest_delta(*slots) == 0
    for length in range(len(new)):
        assert _runtime.newest_delta(old, new[:length] + b"\xff" * (len(new) - length)) == 0
    assert _runtime.newest_delta(old, new) == 1
    assert _runtime.newest_delta(new, old) == 0
    assert _runtime.newest_delta(b"\xff" * 60, b"\x00" * 60) is None


def test_slots_take_turns(setup, learned):
    slots = NorFlash(4 * 1024, page_bytes=1024)
    other = setup.trainer(add=False)
    with pytest.raises(ValueError, match="not a delta"):
        other.load_from_flash(slots)
    for sequence in range(1, 5):
        learned.step()
        learned.update_prototypes()
        learned.save_to_flash(slots)
        newest = (sequence + 1) % 2  # the first goes into slot 0
        delta = learned.save_delta(sequence)
        assert slots.data[2048 * newest:][:len(delta)].tobytes() == delta
        other.load_from_flash(slots)
        assert other.save_delta(sequence) == delta
    assert slots.num_erases == [2, 2, 2, 2]


def test_slots_too_small_for_the_delta(setup, learned):
    for slots in (NorFlash(1024, page_bytes=512), NorFlash(1024, page_bytes=1024)):
        before = slots.data.tobytes()
        with pytest.raises(ValueError, match="flash is too small"):
            learned.save_to_flash(slots)
        assert slots.data.tobytes() == before


def test_power_cut_at_every_byte_of_a_save_leaves_the_old_or_the_new(setup, learned):
    """Every byte of both pages' erasure and of the delta's blocks; twice each, once from a slot that holds an older delta."""
    slots, saved = NorFlash(4 * 1024, page_bytes=1024), []
    for _ in range(3):
        learned.step()
        learned.update_prototypes()
        saved.append(learned.save_delta())
        before = slots.data.copy()
        learned.save_to_flash(slots)
    oldest, old, new = saved
    num_bytes = 2 * 1024 + -(-len(new) // 256) * 256
    other, outcomes = setup.trainer(add=False), {old: 0, new: 0}
    for cut in range(num_bytes + 1):
        slots.data[:] = before
        slots.cut_power_after(cut)
        if cut < num_bytes:
            with pytest.raises(PowerCut):
                learned.save_to_flash(slots)
        else:
            learned.save_to_flash(slots)
        slots.power_on()
        other.load_from_flash(slots)
        outcomes[other.save_delta()] += 1
    assert outcomes == {old: num_bytes - (-len(new) % 256), new: 1 + (-len(new) % 256)}  # padding behind its last byte
