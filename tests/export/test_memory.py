"""Promised bytes: buffers never overlap, parts add up as the runtime's header says, and arenas are the smallest that run."""

import dataclasses

import jsonschema
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import images, tiny_net

from keras_tinytrain.choose.placement import Span, place
from keras_tinytrain.choose.training_memory import TrainingMemory, with_total
from keras_tinytrain.device_settings import DeviceSettings
from keras_tinytrain.export import export_tflm
from keras_tinytrain.export.backward.graph import read_trainable
from keras_tinytrain.export.backward.memory import delta_bytes, feature_flash_bytes, training_memory
from keras_tinytrain.export.boards import BOARDS, Board, board
from keras_tinytrain.export.limits import check_fits
from keras_tinytrain.export.manifest_schema import VERSION, schema
from keras_tinytrain.export.settings import TrainingSettings
from keras_tinytrain.export.tflite import _arena_probe, arena
from keras_tinytrain.export.tflite.convert import convert_int8
from keras_tinytrain.export.tflite.cut import cut_model
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.tflm_runtime.rounding import align, whole_pages


@pytest.fixture(scope="module")
def parts():
    model = fold_batch_norm(tiny_net())
    plan = Plan((LayerPlan("b1_project", (1, 3)), LayerPlan("b2_depthwise", (0, 5)), LayerPlan("logits", (4,))))
    frozen, trainable, operators = cut_model(convert_int8(model, images(model, 8)), model, plan)
    return frozen, *read_trainable(trainable, operators, plan)


@st.composite
def spans(draw):
    first = draw(st.integers(0, 12))
    return Span(draw(st.integers(1, 400)), first, first + draw(st.integers(0, 5)))


@given(st.lists(spans(), max_size=14))
def test_buffers_alive_together_never_overlap(buffers):
    offsets, total, bound = place(buffers)
    assert all(offset % 16 == 0 for offset in offsets)
    assert bound <= total <= sum(align(span.num_bytes) for span in buffers)
    assert total == max((offset + align(span.num_bytes) for offset, span in zip(offsets, buffers)), default=0)
    for i, a in enumerate(buffers):
        for j, b in enumerate(buffers[:i]):
            if a.first <= b.last and b.first <= a.last:
                assert offsets[i] + a.num_bytes <= offsets[j] or offsets[j] + b.num_bytes <= offsets[i]


def test_a_chain_takes_its_two_largest_neighbours():
    sizes = [64, 640, 320, 160, 16]
    chain = [Span(size, step, step + 1) for step, size in enumerate(sizes)]
    assert place(chain)[1:] == (640 + 320, 640 + 320)


def test_training_memory_by_hand(parts):
    _, _, graph = parts
    settings = TrainingSettings(num_classes=3, max_samples=7)
    memory = training_memory(graph, settings, head="prototypes", image_bytes=12 * 12 * 3, num_views=2)
    num_trained = 2 * (16 + 1) + 2 * (9 + 1) + 1 * (12 + 1)
    assert memory.state == {
        "samples": align(7 * 3 * 6 * 6 * 8) + 16,
        "plan": 0,
        "weights": (8 * 16 + 32) + (9 * 16 + 64) + (align(12 * 5) + 32),
        "masters": align(4 * num_trained),
        "optimizer": align(8 * num_trained),
        "prototypes": 2 * align(4 * 3 * 5),
    }
    assert memory.frozen == {"features": 288, "image": 432}
    assert memory.training == {
        "weight_gradients": align(4 * num_trained),
        # the second block: its ends; between them, of 16 channels, four planes and one
        "activation_gradients": 4 * (6 * 6 * 8 + 4 * 6 * 6 + 12 + 3 * 3 * 12),
        # logits, adapted and original; two embeddings; samples per class; the samples' own embeddings in int8
        "head": 2 * 16 + 2 * 32 + 16 + align(7 * 5),
    }
    softmax = training_memory(graph, settings, head="softmax", image_bytes=432, num_views=0)
    assert (softmax.state["prototypes"], softmax.state["samples"]) == (0, align(7 * 288) + 16)
    assert (softmax.frozen["image"], softmax.training["head"]) == (0, 16)
    assert (
        training_memory(
            graph, dataclasses.replace(settings, optimizer="sgd"), head="softmax", image_bytes=432, num_views=0
        ).state["optimizer"]
        == 0
    )


def test_features_in_flash_by_hand(parts):
    _, _, graph = parts
    settings = TrainingSettings(num_classes=3, max_samples=7)
    options = {"head": "prototypes", "image_bytes": 432, "num_views": 2}
    in_ram, in_flash = (training_memory(graph, settings, **options, features=place) for place in ("ram", "flash"))
    assert in_flash.state == {**in_ram.state, "samples": 16}
    assert in_flash.frozen == {"features": 512, "image": 432} and in_flash.training == in_ram.training
    assert feature_flash_bytes(graph, settings, num_views=2) == 7 * 3 * 512
    assert [whole_pages(n, 4096) for n in (0, 1, 4096, 7 * 3 * 512)] == [0, 4096, 4096, 3 * 4096] and whole_pages(5, 0) == 0
    records = [(10, 2, 16), (12, 2, 9), (6, 1, 12)]  # length of the name, channels, weights of each
    expected = 52 + sum(9 + name + n * (2 + weights + 4) for name, n, weights in records)
    assert delta_bytes(graph, settings, head="softmax") == expected
    assert delta_bytes(graph, settings, head="prototypes") == expected + 2 * 9 + 10 + 19 + 2 * 3 * (2 + 4 * 5)
    adapted_only = dataclasses.replace(settings, average=0.0)
    assert delta_bytes(graph, adapted_only, head="prototypes") == expected + 9 + 10 + 3 * (2 + 4 * 5)


@pytest.mark.parametrize(
    ("arenas", "frozen", "training", "model_arena"),
    [
        ((1000, 400), (32, 0), (300, 200, 16), 1000),  # the scratch lies where the frozen part's tensors are
        ((1000, 700), (32, 0), (300, 200, 16), 1216),  # the trainable part's turn takes more
        ((1000, 400), (32, 432), (300, 200, 16), 1432),  # the frozen part reads an image that it may not overwrite
        ((0, 400), (32, 432), (64, 16, 16), 864),  # little is trained: an image and its features are the scratch
    ],
)
def test_the_arena_holds_the_larger_of_both_turns(arenas, frozen, training, model_arena):
    memory = TrainingMemory(
        state={"samples": 64, "weights": 48},
        frozen=dict(zip(("features", "image"), frozen)),
        training=dict(zip(("weight_gradients", "activation_gradients", "head"), training)),
    )
    assert memory.model_arena(*arenas) == model_arena
    parts = {"samples": 64, "weights": 48, "model_arena": model_arena, "variables": 2_048}
    assert memory.sram(*arenas, variables=2_048) == {**parts, "total": 112 + model_arena + 2_048}
    assert memory.scratch_bytes == max(sum(frozen), sum(training)) and memory.state_bytes == 112


@pytest.mark.parametrize(
    ("change", "views", "part", "num_bytes"),
    [
        ({"weights": "int8"}, 0, "masters", 0),
        ({"optimizer": "adam_per_channel"}, 0, "optimizer", align(4 * (67 + 2 * 5))),  # 67 weights, 5 channels with biases
        ({"average": 0.0}, 0, "prototypes", 64),
        ({"average": 0.0, "leave_one_out": False}, 2, "head", 32 + 16 + 16),
        ({"average": 0.0}, 0, "head", 32 + 16 + 16 + 32),
        ({"average": 0.0, "updates": "immediate"}, 0, "head", 32 + 16 + 16 + 32 + align(7 * 5)),
        ({"leave_one_out": False}, 0, "head", 32 + 16 + 16 + 16),
    ],
)
def test_what_a_setting_costs(parts, change, views, part, num_bytes):
    settings = TrainingSettings(num_classes=3, max_samples=7, **change)
    memory = training_memory(parts[2], settings, head="prototypes", image_bytes=432, num_views=views)
    assert {**memory.state, **memory.training}[part] == num_bytes


def test_gradients_lie_as_tight_as_possible(parts):
    assert parts[2].gradient_bytes == parts[2].gradient_bytes_bound


@pytest.mark.parametrize("part", [0, 1])
def test_arena_is_the_smallest_that_runs(parts, part):
    promised = arena.smallest_arena(parts[part])
    arena.new_interpreter(parts[part], promised).invoke()
    assert _arena_probe.runs(parts[part], promised) and not _arena_probe.runs(parts[part], promised - 16)
    assert _arena_probe.reported_bytes(parts[part], promised) <= promised


def test_a_model_so_small_that_its_smallest_arenas_end_the_process():
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    model = convert_int8(net, np.random.default_rng(0).normal(size=(10, 8, 8, 1)))
    arena.new_interpreter(model, arena.smallest_arena(model)).invoke()


def test_what_is_no_model_is_refused():
    with pytest.raises(ValueError, match="Expected the bytes of a .tflite file. Received bytes that begin with b'no model'"):
        arena.smallest_arena(b"no model" * 100)


def test_missing_interpreter_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tflite_micro", None)
    with pytest.raises(ImportError, match=r"keras-tinytrain\[host\]"):
        arena.micro_runtime()


def test_boards():
    assert board("nano33ble").sram_bytes == 262144
    assert board("nano33ble").flash_bytes == 983040
    assert board(BOARDS["rp2040"]) is BOARDS["rp2040"]
    with pytest.raises(ValueError, match="Unknown board 'uno'. Known: nano33ble, "):
        board("uno")


BOARD_FILE = """
name = "mine"
cpu = "Cortex-M4F"
clock_hz = 80_000_000
sram_bytes = 131_072
flash_bytes = 1_048_576
"""


def test_a_board_is_read_from_a_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(BOARD_FILE)
    assert board(file) == board(str(file)) == Board("mine", "Cortex-M4F", 80_000_000, 131_072, 1_048_576)
    file.write_text(BOARD_FILE + "reserved_sram_bytes = 1024")
    assert board(file).available_sram_bytes == 131_072 - 1024


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOARD_FILE.replace("cpu", "# cpu"), "cpu missing"),
        (BOARD_FILE + "speed = 3", "unknown field 'speed'"),
        (BOARD_FILE.replace("131_072", '"128 KB"'), "sram_bytes expects a number"),
        (BOARD_FILE.replace("131_072", "0"), "sram_bytes expects a number of at least 1"),
        (BOARD_FILE + "reserved_sram_bytes = -1", "no negative number"),
        (BOARD_FILE + "flash_page_bytes = 1000", "flash_page_bytes expects a multiple of 256"),
        ("name = ", "cannot be read as TOML"),
    ],
)
def test_a_file_that_is_no_board_is_refused(tmp_path, text, message):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        board(tmp_path / "mine.toml")
    with pytest.raises(ValueError, match="other.toml does not exist: name a .toml file that describes a board"):
        board(tmp_path / "other.toml")


def test_a_board_leaves_room_in_flash_and_knows_its_kernels():
    assert board("nano33ble").available_flash_bytes == 983040 - 86016 and board("nano33ble").kernels == "arduino"
    assert board("esp32s3").kernels == "esp-nn"
    with pytest.raises(ValueError, match="kernels expects one of reference, cmsis-nn, arduino, esp-nn. Received: 'x86'"):
        Board("b", "cpu", 1, 100, 100, kernels="x86")
    with pytest.raises(
        ValueError, match="reserved_flash_bytes expects a number from 0 to less than flash_bytes. Received: 100"
    ):
        Board("b", "cpu", 1, 100, 100, reserved_flash_bytes=100)


def test_kernels_of_a_plan_are_those_of_its_export(tmp_path):
    """A plan carries them; a manifest that an earlier release wrote has none, and loads."""
    model = tiny_net()
    plan = Plan((LayerPlan("logits", (0, 2)),), device=DeviceSettings(kernels="cmsis-nn"))
    bundle = export_tflm(
        model, Plan.from_json(plan.to_json()), calibration=images(model, 8), out=tmp_path / "net", head="prototypes"
    )
    assert bundle.manifest["board"]["kernels"] == "cmsis-nn"
    assert bundle.manifest["arenas"]["frozen_arena"] == arena.board_arena(bundle.frozen, "cmsis-nn")
    later = ("kernels", "reserved_flash_bytes")
    fields = dict(bundle.manifest, board={key: value for key, value in bundle.manifest["board"].items() if key not in later})
    assert not list(jsonschema.Draft4Validator(schema(VERSION)).iter_errors(fields))


def test_what_does_not_fit_is_refused_with_the_largest_parts():
    target = Board("b", "cpu", 1, sram_bytes=100, flash_bytes=100, reserved_sram_bytes=10)
    fits, flash = with_total({"a": 50, "c": 40}), with_total({"model": 100})
    check_fits(target, fits, flash)
    with pytest.raises(ValueError, match="91 B of SRAM, board 'b' has 90 B. Largest parts: a 51 B, c 40 B"):
        check_fits(target, with_total({"a": 51, "c": 40}), flash)
    with pytest.raises(ValueError, match="101 B of flash"):
        check_fits(target, fits, with_total({"model": 101}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", "adagrad"),
        ("weights", "float16"),
        ("updates", "sometimes"),
        ("average", 1.5),
        ("average", float("nan")),
        ("seed", -1),
        ("learning_rate", -1.0),
        ("momentum", 1.0),
        ("epsilon", 0.0),
        ("num_classes", 256),
        ("max_samples", 0),
    ],
)
def test_settings_are_checked(field, value):
    with pytest.raises(ValueError, match=f"{field} expects"):
        TrainingSettings(**{field: value})


@pytest.mark.parametrize(
    "fields, match",
    [
        ({"sram_bytes": 0}, "sram_bytes expects a number of at least 1. Received: 0"),
        ({"reserved_sram_bytes": -3}, "reserved_sram_bytes expects a number from 0 .* Received: -3"),
        ({"reserved_sram_bytes": 262_144}, "less than sram_bytes. Received: 262144"),
        ({"flash_page_bytes": 100}, "multiple of 256"),
    ],
)
def test_board_refuses_sizes_that_cannot_be(fields, match):
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(board("nano33ble"), **fields)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: TrainingSettings(stop_loss="x"), "stop_loss expects a number. Received: 'x'"),
        (lambda: TrainingSettings(late_prototypes=3), "late_prototypes expects True or False or None. Received: 3"),
        (lambda: TrainingSettings(iterations=2.5), "iterations expects a whole number or None. Received: 2.5"),
        (lambda: TrainingSettings(num_classes="5"), "num_classes expects a whole number or None. Received: '5'"),
        (lambda: TrainingSettings(average=True), "average expects a number. Received: True"),
        (lambda: TrainingSettings(optimizer=["adam"]), "optimizer expects text. Received: .'adam'."),
        (lambda: Board("b", "cpu", "64 MHz", 100, 100), "clock_hz expects a whole number. Received: '64 MHz'"),
        (lambda: Board(None, "cpu", 1, 100, 100), "name expects text. Received: None"),
    ],
)
def test_a_setting_of_another_kind_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        settings()


def test_numbers_of_numpy_are_settings():
    settings = TrainingSettings(
        learning_rate=np.float32(0.5), iterations=np.int64(3), late_prototypes=np.bool_(True), momentum=0
    )
    assert settings.iterations == 3 and settings.late_prototypes


def test_a_rate_that_is_no_number_is_named(tmp_path):
    model = tiny_net()
    plan = Plan((LayerPlan("logits", (0, 2)),))
    with pytest.raises(ValueError, match="reject_unknown expects a number. Received: 'much'"):
        export_tflm(model, plan, calibration=images(model, 8), out=tmp_path / "net", reject_unknown="much")
