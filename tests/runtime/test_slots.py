"""What was saved in flash can be taken back for good, and a power cut at any byte leaves the state before or after."""

import numpy as np
import pytest

from keras_tinytrain import _runtime
from keras_tinytrain.run.nor_flash import NorFlash, PowerCut
from tests.runtime.test_deltas import learned  # noqa: F401

pytestmark = pytest.mark.trust
NOTHING = "as exported"


@pytest.fixture
def slots():
    return NorFlash(4 * 1024, page_bytes=1024)


def learn_and_save(trainer, slots):
    trainer.step()
    trainer.update_prototypes()
    trainer.save_to_flash(slots)
    return trainer.save_delta()


def after_power_up(setup, slots):
    """What a device that starts now has learned."""
    trainer = setup.trainer(add=False)
    try:
        trainer.load_from_flash(slots)
    except ValueError:
        assert _runtime.newest_delta(slots.data[:2048].tobytes(), slots.data[2048:].tobytes()) is None
    assert trainer.is_saved(slots)
    return NOTHING if trainer.is_as_exported else trainer.save_delta()


def test_a_revert_is_saved_as_a_delta_without_records(setup, learned, slots):
    good = learn_and_save(learned, slots)
    assert learned.is_saved(slots) and not learned.is_as_exported
    learned.revert()
    assert learned.is_as_exported and not learned.is_saved(slots)
    assert after_power_up(setup, slots) == good
    learned.save_to_flash(slots)
    assert learned.is_saved(slots) and after_power_up(setup, slots) == NOTHING
    assert slots.data[2048:][:52].tobytes()[6:8] == b"\0\0" and slots.data[2048 + 52] == 0xFF


def test_saving_the_same_twice_keeps_the_older_slot(setup, learned, slots):
    good = learn_and_save(learned, slots)
    learned.revert()
    for _ in range(3):
        learned.save_to_flash(slots)
    assert slots.num_erases == [1, 1, 1, 1]
    learned.undo_save(slots)
    assert learned.save_delta() == after_power_up(setup, slots) == good
    for _ in range(3):
        learned.save_to_flash(slots)
    assert slots.num_erases == [1, 1, 2, 2]


def test_undo_goes_back_one_save_and_no_further(setup, learned, slots):
    with pytest.raises(RuntimeError, match="no older delta"):
        learned.undo_save(slots)
    saved = [learn_and_save(learned, slots) for _ in range(3)]
    assert after_power_up(setup, slots) == saved[2]
    learned.undo_save(slots)
    assert learned.save_delta() == after_power_up(setup, slots) == saved[1]
    with pytest.raises(RuntimeError, match="no older delta"):
        learned.undo_save(slots)
    assert learned.save_delta() == after_power_up(setup, slots) == saved[1]
    learned.step()
    learned.update_prototypes()
    learned.save_to_flash(slots)
    assert after_power_up(setup, slots) == learned.save_delta() != saved[1]


def test_an_older_delta_of_another_model_is_no_way_back(setup, learned, slots):
    learn_and_save(learned, slots)
    good = learn_and_save(learned, slots)
    foreign = bytearray(slots.data[:2048].tobytes())
    length = int.from_bytes(foreign[12:16], "little")
    foreign[16] ^= 1
    foreign[length - 4 : length] = _runtime.crc32(bytes(foreign[: length - 4])).to_bytes(4, "little")
    slots.data[:2048] = np.frombuffer(foreign, np.uint8)
    with pytest.raises(ValueError, match="another base model"):
        learned.undo_save(slots)
    assert learned.save_delta() == after_power_up(setup, slots) == good


def test_factory_reset_forgets_both_slots_and_the_samples(setup, learned, slots):
    for _ in range(2):
        learn_and_save(learned, slots)
    learned.factory_reset(slots)
    assert learned.is_as_exported and learned.num_samples == 0 and (slots.data == 0xFF).all()
    assert after_power_up(setup, slots) == NOTHING


@pytest.mark.parametrize("command", ["revert_and_save", "undo_save", "factory_reset"])
def test_power_cut_at_every_byte_leaves_the_state_before_or_after(setup, learned, slots, command, tried):
    saved = [learn_and_save(learned, slots) for _ in range(2)]
    before = slots.data.copy()
    after = saved[0] if command == "undo_save" else NOTHING

    def run():
        learned.load_from_flash(slots)
        if command == "revert_and_save":
            learned.revert()
            learned.save_to_flash(slots)
        else:
            getattr(learned, command)(slots)

    outcomes = []
    for cut in range(4097):
        slots.data[:] = before
        slots.cut_power_after(cut)
        try:
            run()
            done = True
        except PowerCut:
            done = False
        slots.power_on()
        outcomes.append(after_power_up(setup, slots))
        if done:
            break
    assert done and outcomes[-1] == after
    first = outcomes.index(after)  # 0: the first byte of a slot is changed halfway, so that it holds no delta
    assert outcomes == [saved[1]] * first + [after] * (len(outcomes) - first)  # never back again
    tried("power cut while slots are written", len(outcomes) - 1)
