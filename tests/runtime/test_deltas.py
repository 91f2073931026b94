"""The trainer's deltas: a good one brings back the learned weights, any other is refused."""

import struct
import zlib

import numpy as np
import pytest

from keras_tinytrain import _runtime
from keras_tinytrain.run.nor_flash import NorFlash, PowerCut
from tests.runtime.trainers import assert_same_weights, int8_weights


@pytest.fixture
def learned(setup):
    trainer = setup.trainer(optimizer="adam", learning_rate=0.02, iterations=2)
    trainer.train()
    return trainer


def with_crc(data):
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def test_crc_equals_zlibs():
    data = bytes(range(256)) * 3
    assert _runtime.crc32(data) == zlib.crc32(data)
    assert _runtime.crc32(data[100:], _runtime.crc32(data[:100])) == zlib.crc32(data)


def test_delta_brings_back_the_learned_weights(setup, learned):
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


def test_delta_has_the_documented_format(setup, learned):
    delta = learned.save_delta(sequence=0x01020304)
    magic, version, num_records, sequence, length = struct.unpack_from("<4sHHII", delta)
    assert (magic, version, sequence, length) == (b"TTDL", 1, 0x01020304, len(delta))
    assert num_records == len(setup.net.trained) + 1
    assert delta[16:48] == setup.net.base_hash
    assert struct.unpack("<I", delta[-4:])[0] == zlib.crc32(delta[:-4])
    offset = 48
    for index, (layer, channels) in enumerate(setup.net.trained.items()):
        size = delta[offset]
        assert delta[offset + 1 : offset + 1 + size].decode() == f"layer_{layer}"
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
    assert delta[offset : offset + 11] == b"\x0aprototypes"
    assert struct.unpack_from("<BBIH", delta, offset + 11) == (0, 0, 7, 3)
    np.testing.assert_array_equal(np.frombuffer(delta, "<f4", 21, offset + 19 + 6).reshape(3, 7), learned.prototypes())
    assert offset + 19 + 6 + 84 + 4 == len(delta)


def test_cut_deltas_are_refused_at_every_length(setup, learned, tried):
    delta, before = learned.save_delta(), int8_weights(learned)
    for length in range(len(delta)):
        with pytest.raises(ValueError, match="cut short"):
            learned.load_delta(delta[:length])
        erased = delta[:length] + b"\xff" * (len(delta) - length)  # the same cut inside a flash slot
        if erased != delta:
            with pytest.raises(ValueError, match="cut short"):
                learned.load_delta(erased)
    assert_same_weights(int8_weights(learned), before)
    tried("delta cut at a byte", len(delta), len(delta))


def test_any_flipped_bit_is_refused(setup, learned, tried):
    delta, before = learned.save_delta(), int8_weights(learned)
    for position in range(len(delta)):
        broken = bytearray(delta)
        broken[position] ^= 1 << (position % 8)
        with pytest.raises(ValueError):
            learned.load_delta(bytes(broken))
    assert_same_weights(int8_weights(learned), before)
    tried("bit of a delta flipped", len(delta), len(delta))


def test_altered_records_with_a_good_crc_are_refused_or_fully_loaded(setup, learned):
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


def test_power_cut_at_any_byte_leaves_the_old_or_the_new(learned, tried):
    old, new = learned.save_delta(sequence=0xFFFFFFFF), learned.save_delta(sequence=0)  # the sequence number wraps
    slots = old, b"\xff" * len(old)
    assert _runtime.newest_delta(*slots) == 0
    for length in range(len(new)):
        assert _runtime.newest_delta(old, new[:length] + b"\xff" * (len(new) - length)) == 0
    assert _runtime.newest_delta(old, new) == 1
    assert _runtime.newest_delta(new, old) == 0
    assert _runtime.newest_delta(b"\xff" * 60, b"\x00" * 60) is None
    tried("slot torn at a byte", len(new))


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
        assert slots.data[2048 * newest :][: len(delta)].tobytes() == delta
        other.load_from_flash(slots)
        assert other.save_delta(sequence) == delta
    assert slots.num_erases == [2, 2, 2, 2]


def test_slots_too_small_for_the_delta_are_refused(setup, learned):
    for slots in (NorFlash(1024, page_bytes=512), NorFlash(1024, page_bytes=1024)):
        before = slots.data.tobytes()
        with pytest.raises(ValueError, match="flash is too small"):
            learned.save_to_flash(slots)
        assert slots.data.tobytes() == before


def test_power_cut_at_every_byte_of_a_save_leaves_the_old_or_the_new(setup, learned, tried):
    """Every byte of both pages' erasure and of the delta's blocks; twice each, once from a slot that holds an older delta."""
    slots, saved = NorFlash(4 * 1024, page_bytes=1024), []
    for _ in range(3):
        learned.step()
        learned.update_prototypes()
        saved.append(learned.save_delta())
        before = slots.data.copy()
        learned.save_to_flash(slots)
    _, old, new = saved
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
    assert outcomes == {old: num_bytes - (-len(new) % 256), new: 1 + (-len(new) % 256)}  # padding after its last byte
    tried("power cut while slots are written", num_bytes)
