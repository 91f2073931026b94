"""The report: its values are those of the bundle and the task, and the page is whole, safe and quiet in a browser."""

import html.parser
import json
import shutil
import subprocess
import zlib

import keras
import numpy as np
import pytest
from models import images, pooled_net, tiny_net

from keras_tinytrain.cli.report import content, page
from keras_tinytrain.cli.report.timeline import arena_steps
from keras_tinytrain.device_settings import DeviceSettings
from keras_tinytrain.export import Candidates, TrainingSettings, export_tflm
from keras_tinytrain.plan import LayerPlan, Plan

NETS = {
    "softmax": (lambda: tiny_net(classes=3), {"b2_expand": (0, 1), "logits": (0, 1, 2)}, "softmax"),
    "no_frozen_part": (pooled_net, {"first": (0, 5), "hidden": (1, 7)}, "prototypes"),
}
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module", params=NETS)
def bundle(request, tmp_path_factory):
    make, trained, head = NETS[request.param]
    device = DeviceSettings(num_classes=3, class_names=("a", HOSTILE, "c"), head=head)
    plan = Plan(tuple(LayerPlan(name, channels) for name, channels in trained.items()), device=device)
    model = make()
    settings = TrainingSettings(max_samples=6).on(device)
    folder = tmp_path_factory.mktemp(request.param) / "net"
    return export_tflm(model, plan, calibration=images(model, 6), out=folder, training=settings)


@pytest.fixture
def values(bundle):
    counts = {"before": content.confusion(np.array([0, 1, 2, 2]), np.array([0, 2, 2, 0]), 3), "after": np.eye(3, dtype=int)}
    return content.bundle_values(bundle, "keras-tinytrain export ...") | content.learning_values([2.0, 1.5], counts)


def test_arena_is_never_fuller_than_promised_and_goes_back_to_the_first_trained_layer(bundle):
    steps = arena_steps(bundle)
    assert max(step["bytes"] for step in steps) <= bundle.promised_bytes["sram"]["model_arena"]
    forward = [step["layer"] for step in steps if step["part"] == "trainable"]
    backward = [step["layer"] for step in steps if step["part"] == "backward"]
    assert set(bundle.manifest["trained"]) <= set(forward)
    assert backward[-1] == next(name for name in forward if name in bundle.manifest["trained"])
    peak = max(step["bytes"] for step in steps if step["part"] == "backward")
    assert peak >= max(step["bytes"] for step in steps if step["part"] == "trainable")


def test_layers_whose_names_end_in_numbers_and_halves_of_a_layer_are_told_apart(tmp_path):
    window = keras.Input((16, 3))
    x = keras.layers.Conv1D(4, 3, activation="relu", name="conv")(window)
    x = keras.layers.Conv1D(8, 3, activation="relu", name="conv_1")(x)
    x = keras.layers.Conv1D(8, 3, activation="relu", name="conv_2")(x)
    model = keras.Model(window, keras.layers.GlobalAveragePooling1D(name="pool")(x))
    plan, training = Plan((LayerPlan("conv_2", (1, 2, 5)),)), TrainingSettings(num_classes=2, max_samples=2)
    options = {"training": training, "weights_in_ram": "selected"}
    bundle = export_tflm(model, plan, calibration=images(model, 4), out=tmp_path / "net", head="prototypes", **options)
    forward = [step["layer"] for step in arena_steps(bundle) if step["part"] != "backward"]
    assert [layer for layer in dict.fromkeys(forward) if "." not in layer] == ["conv", "conv_1", "conv_2", "pool"]
    assert forward.count("conv_2") > 2  # trained channels, the others, and what puts them in order
    assert "conv_2<br>3 channels" in page.rendered(content.bundle_values(bundle, "export"))


def test_memory_is_what_was_promised(bundle, values):
    for memory, name in (("sram", "SRAM"), ("flash", "flash")):
        told = values["memory"][name]
        assert told["total_bytes"] == sum(told["parts"].values()) == bundle.promised_bytes[memory]["total"]


def test_confusion_has_classes_in_rows_and_answers_in_columns(values):
    assert values["confusion"]["before"] == [[1, 0, 0], [0, 0, 1], [1, 0, 1]]


def test_page_needs_nothing_else_and_runs_nothing(values, tmp_path):
    page.write_report(tmp_path / "report.html", values)
    text = (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "report.json").read_text()) == values
    assert "<script" not in text and "&lt;script&gt;" in text
    assert "http:" not in text and "https:" not in text and "url(" not in text
    seen = _Page(text)
    assert seen.open == [] and {"Memory on the board", "The network", "Learning"} <= set(seen.headings)
    assert all(attributes.get("aria-label") for attributes in seen.drawings) and len(seen.drawings) == 4


def test_candidates_are_told_as_candidates(tmp_path):
    model = tiny_net(classes=3)
    training = TrainingSettings(num_classes=3, max_samples=6)
    bundle = export_tflm(
        model, Candidates(), calibration=images(model, 6), out=tmp_path / "net", head="softmax", training=training
    )
    assert "candidates: the board chooses among them" in page.rendered(content.bundle_values(bundle, "export"))


def test_picture_is_a_png_of_dark_ink_on_white():
    image = np.zeros((2, 3, 1), np.float32)
    image[1, 2] = 1
    data = page.base64.b64decode(page.picture(image).removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[16:24] == b"\0\0\0\3\0\0\0\2"
    start = data.index(b"IDAT") + 4
    assert zlib.decompress(data[start : data.index(b"IEND") - 8]) == b"\0\xff\xff\xff\0\xff\xff\0"


@pytest.mark.parametrize("name, told", [("report.pdf", "ends in .html"), ("nowhere/report.html", "no folder")])
def test_a_report_that_cannot_be_written_is_refused_first(tmp_path, name, told):
    with pytest.raises(ValueError, match=told):
        page.check_report(tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1100])
def test_browser_shows_the_page_without_a_word_on_its_console(values, tmp_path, width):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs a browser: apt-get install --no-install-recommends chromium")
    page.write_report(tmp_path / "report.html", values)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'user'}"]
    seen = [f"--window-size={width},2400", f"--screenshot={tmp_path / 'page.png'}", (tmp_path / "report.html").as_uri()]
    done = subprocess.run([chromium, *options, *seen], capture_output=True, text=True, timeout=120)
    assert (tmp_path / "page.png").stat().st_size > 10_000, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr


class _Page(html.parser.HTMLParser):
    """Headings, drawings, and the elements that are left open."""

    _VOID = ("meta", "link", "img", "br", "rect", "polyline")

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.drawings = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "svg":
            self.drawings.append(dict(attrs))
        if tag not in self._VOID or (tag == "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)
