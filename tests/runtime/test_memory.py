"""The trainer's memory: bytes as promised, nothing overrun, and samples in flash."""

import numpy as np
import pytest

from keras_tinytrain import _runtime
from keras_tinytrain.choose.training_memory import LayerInRam, Training, TrainingMemory, training_memory
from keras_tinytrain.run.nor_flash import NorFlash, PowerCut
from tests.runtime.reference import views_of
from tests.runtime.test_trainer import by_channel, thin_views  # noqa: F401
from tests.runtime.trainers import VIEWS


def align16(x):
    return -(-int(x) // 16) * 16


def promised_parts(
    net,
    optimizer,
    *,
    num_classes=3,
    max_samples=8,
    masters=True,
    leave_one_out=False,
    kept=False,
    average=False,
    in_flash=False,
):
    """The formulas of the header, by themselves; `kept`: the samples' own embeddings are."""
    elements = lambda t: int(np.prod(net.tensors[t].shape))
    per_channel = lambda i: net.layers[i].kernel.size // net.tensors[net.layers[i].output].shape[2]
    has_bias = lambda i: net.layers[i].bias is not None
    num_weights = sum(len(c) * (per_channel(i) + has_bias(i)) for i, c in net.trained.items())
    num_runs = sum(len(c) * (1 + has_bias(i)) for i, c in net.trained.items())
    dimension = elements(-1)
    state = {
        "samples": (0 if in_flash else align16(max_samples * (1 + len(net.views)) * elements(0))) + align16(max_samples),
        "weights": sum(
            align16(net.layers[i].kernel.size) + (align16(4 * net.layers[i].bias.size) if has_bias(i) else 0)
            for i in net.trained
        ),
        "plan": 0,
        "masters": align16(4 * num_weights) if masters else 0,
        "optimizer": align16(
            4
            * {
                "sgd": 0,
                "momentum": num_weights,
                "adam": 2 * num_weights,
                "adam_per_channel": num_weights + num_runs,
                "rmsprop": num_weights,
            }[optimizer]
        ),
        "prototypes": 0 if net.head == "softmax" else (1 + average) * align16(4 * num_classes * dimension),
    }
    frozen = {
        "features": -(-elements(0) // 256) * 256 if in_flash else align16(elements(0)),
        "image": align16(np.prod(net.image_shape)) if net.views else 0,
    }
    training = {
        "weight_gradients": align16(4 * num_weights),
        "activation_gradients": align16(net.gradient_bytes),
        "head": align16(4 * num_classes)
        + (
            0
            if net.head == "softmax"
            else align16(4 * num_classes)
            + align16(4 * dimension)
            + leave_one_out * align16(4 * dimension)
            + kept * align16(max_samples * dimension)
            + average * align16(4 * num_classes)
        ),
    }
    gradients = training["weight_gradients"] + training["activation_gradients"]
    scratch = max(sum(frozen.values()), max(gradients, frozen["features"]) + training["head"])
    lasting = sum(state.values())
    return {**state, "state": lasting, **frozen, **training, "scratch": scratch, "total": lasting + scratch}


def python_memory(
    net,
    optimizer,
    *,
    weights="float_masters",
    updates="accumulated",
    leave_one_out=False,
    late_prototypes=False,
    average=0,
    in_flash,
):
    """What Python promises of a net with 3 classes and room for 8 samples."""
    elements = lambda t: int(np.prod(net.tensors[t].shape))
    channels = lambda i: net.tensors[net.layers[i].output].shape[2]
    layers = [(net.layers[i], channels(i), len(chosen)) for i, chosen in net.trained.items()]
    return training_memory(
        Training(
            layers=tuple(LayerInRam(n, size, x.kernel.size // size, x.bias is not None) for x, size, n in layers),
            gradient_bytes=net.gradient_bytes,
            num_features=elements(0),
            num_pixels=int(np.prod(net.image_shape)),
            dimension=elements(-1),
            num_samples=8,
            num_views=len(net.views),
            num_classes=3,
            optimizer=optimizer,
            weights=weights,
            features_in_flash=in_flash,
            has_prototypes=net.head == "prototypes",
            leave_one_out=leave_one_out,
            late_prototypes=late_prototypes,
            immediate=updates == "immediate",
            averages=average > 0,
        )
    )


@pytest.mark.parametrize("which", ["setup", "with_views", "thin_views", "softmax"])
@pytest.mark.parametrize("in_flash", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adam_per_channel", "rmsprop"])
@pytest.mark.parametrize(
    "settings, changes",
    [
        ({}, {}),
        ({"weights": "int8"}, {"masters": False}),
        ({"average": 0.25}, {"average": True}),
        ({"leave_one_out": True}, {"leave_one_out": True}),
        ({"leave_one_out": True, "updates": "immediate"}, {"leave_one_out": True, "kept": True}),
        ({"late_prototypes": True}, {"kept": True}),
    ],
    ids=str,
)
def test_bytes_promised_are_bytes_needed(which, optimizer, settings, changes, in_flash, request):
    setup = request.getfixturevalue(which)
    if setup.net.views and settings == {"leave_one_out": True}:
        changes = {**changes, "kept": True}
    expected = promised_parts(setup.net, optimizer, in_flash=in_flash, **changes)
    promised = python_memory(setup.net, optimizer, in_flash=in_flash, **settings)
    assert promised == TrainingMemory.of(expected)
    assert (promised.state_bytes, promised.scratch_bytes) == (expected["state"], expected["scratch"])
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
    return padded[start : start + num_bytes]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"leave_one_out": True, "average": 0.5},
        {"leave_one_out": True, "average": 0.5, "weights": "int8", "updates": "immediate", "optimizer": "adam_per_channel"},
    ],
    ids=len,
)
def test_arena_is_checked_and_never_overrun(setup, settings):
    total = _runtime.required_bytes(setup.tables, settings)["state"]
    with pytest.raises(ValueError, match=f"received {total - 1} bytes, required {total}"):
        _runtime.Trainer(
            setup.tables, setup.net.run_trainable, setup.net.run_frozen, settings=settings, arena=aligned_arena(total - 1)
        )
    with pytest.raises(ValueError, match="not aligned"):
        _runtime.Trainer(
            setup.tables, setup.net.run_trainable, setup.net.run_frozen, settings=settings, arena=aligned_arena(total, 8)
        )
    guarded = aligned_arena(total + 64)
    guarded[total:] = 0xA5
    trainer = _runtime.Trainer(
        setup.tables, setup.net.run_trainable, setup.net.run_frozen, setup.net.bind, settings=settings, arena=guarded
    )
    for image, label in zip(setup.images, setup.labels):
        trainer.add_sample(image, label)
    trainer.train()
    trainer.predict(setup.images[0])
    assert (guarded[total:] == 0xA5).all()


def learn(trainer, setup):
    """Everything that a life of a trainer leads to: losses, weights, prototypes, and predictions before and after more training."""
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
        assert flash.data[at : at + 256].tobytes() == features.tobytes() + bytes(256 - features.size)
    assert (flash.data[6 * 3 * 256 : 5 * 1024] == 0xFF).all() and (flash.data[5 * 1024 :] == 0xA5).all()


def test_flash_that_does_not_fit_is_refused(setup):
    for flash in (NorFlash(7 * 256, page_bytes=256), NorFlash(2048, page_bytes=2048 - 128)):
        with pytest.raises(ValueError, match="flash is too small, or not made of whole pages"):
            setup.trainer(flash=flash)


def test_failed_write_spoils_no_sample(setup):
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
    with pytest.raises(RuntimeError, match="block at offset 0 was written before: erase its page first"):
        flash.write(0, bytes(256))
    flash.erase(0)
    flash.write(256, bytes(range(256)))
    assert flash.data[:512].tobytes() == b"\xff" * 256 + bytes(range(256))
    for offset, block in ((256, bytes(256)), (100, bytes(256)), (0, bytes(8)), (1024, bytes(256))):
        with pytest.raises(RuntimeError):
            flash.write(offset, block)
    with pytest.raises(RuntimeError, match="begins no page"):
        flash.erase(256)
