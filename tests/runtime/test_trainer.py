"""The trainer: its gradients and steps, and misuse of it, over a network that numpy runs exactly."""

import dataclasses

import keras
import numpy as np
import pytest

from tests.runtime.gated_net import gated_net
from tests.runtime.int8_net import NONE
from tests.runtime.reference import keras_change, views_of
from tests.runtime.small_net import SPLIT, small_net
from tests.runtime.trainers import VIEWS, Setup, all_of


@pytest.fixture(scope="module")
def by_channel(tmp_path_factory):
    return Setup(small_net(by_channel=3), tmp_path_factory.mktemp("by_channel"))


@pytest.fixture(scope="module")
def thin_views(tmp_path_factory):
    """Little is trained of it: an image and its features take more than all gradients, so that they make the scratch."""
    net = dataclasses.replace(small_net(), views=VIEWS, bound={}, trained={10: [0, 2]})
    stop_gradients(net)
    for tensor in net.tensors:
        tensor.gradient_offset -= 0 if tensor.gradient_offset == NONE else net.tensors[-1].gradient_offset
    return Setup(net, tmp_path_factory.mktemp("thin"))


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return Setup(dataclasses.replace(small_net(), split=SPLIT, bound={}), tmp_path_factory.mktemp("split"))


@pytest.fixture(scope="module")
def picking(tmp_path_factory):
    return Setup(small_net(picking=True), tmp_path_factory.mktemp("picking"))


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    return Setup(gated_net(), tmp_path_factory.mktemp("gated"))


# ---- gradients -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["setup", "by_channel", "with_views", "softmax", "split", "picking", "gated"])
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
    """No gradient for tensors before the first trained layer, as the exporter does."""
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
        trainer.train(lambda iteration, loss, losses=losses: losses.append(loss))
        learned.append((losses, trainer.save_delta(), trainer.predict(setup.images[0])[1].tobytes()))
        used.append(trainer.memory_parts()["weights"])
        trainer.revert()
        trainer.load_delta(learned[-1][1])
        assert trainer.save_delta() == learned[-1][1]
        assert trainer.predict(setup.images[0])[1].tobytes() == learned[-1][2]
    assert learned[0] == learned[1]
    saved = sum(
        sizes_in_ram(whole.net, index, None) - sizes_in_ram(whole.net, index, whole.net.trained[index]) for index in SPLIT
    )
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


@pytest.mark.parametrize("optimizer, learning_rate", [("sgd", 0.3), ("momentum", 0.1), ("adam", 0.01), ("rmsprop", 0.001)])
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


@pytest.mark.parametrize("rho", [0.9, 0.999])
def test_rmsprop_is_the_optimizer_of_keras(setup, rho):
    trainer = setup.trainer(optimizer="rmsprop", learning_rate=0.001, beta_2=rho, epsilon=1e-5)
    weights = keras.Variable(all_of(trainer, "masters"), dtype="float64")
    optimizer = keras.optimizers.RMSprop(0.001, rho=rho, epsilon=1e-5)
    optimizer.build([weights])
    for _ in range(4):
        trainer.step()
        optimizer.apply([keras.ops.convert_to_tensor(all_of(trainer, "weight_gradients"))], [weights])
        np.testing.assert_allclose(all_of(trainer, "masters"), np.asarray(weights), rtol=1e-5, atol=1e-6)


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
