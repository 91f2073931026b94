"""A person's whole session in the browser with the emulated board: what it learns equals the command line's, and stays."""

import urllib.error
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from selenium.webdriver.common.action_chains import ActionChains

from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.cli import main
from keras_tinytrain.data import load_digits
from keras_tinytrain.delta import Delta
from keras_tinytrain.device_settings import DeviceSettings
from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.export.page.teach_page import teach_page
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.emulator import EmulatedBoard
from keras_tinytrain.run.firmware import build_firmware
from keras_tinytrain.run.page_server import serve_page
from keras_tinytrain.run.quantise import quantise_samples

CLASSES, FILES, QUERIES, ITERATIONS = (0, 1, 7), 2, 4, 30
STROKES = {  # of the digits, in shares of the pad
    0: [(0.5, 0.15), (0.3, 0.3), (0.25, 0.5), (0.3, 0.7), (0.5, 0.85), (0.7, 0.7), (0.75, 0.5), (0.7, 0.3), (0.5, 0.15)],
    1: [(0.4, 0.25), (0.52, 0.15), (0.5, 0.85)],
    7: [(0.25, 0.2), (0.75, 0.2), (0.45, 0.85)],
}
# Notes each image that the page sends, with its label.
NOTED = """
self.noted = [];
const teach = Board.prototype.teach;
Board.prototype.teach = function (label, image) {
  self.noted.push([label, Array.from(image)]);
  return teach.call(this, label, image);
};
"""


@pytest.fixture(scope="module")
def digits():
    """Images of three digits: files to teach, then queries, each (N, 32, 32, 1) with labels."""
    domain = load_digits()
    places = [np.flatnonzero(domain.labels == digit)[: FILES + QUERIES] for digit in CLASSES]
    parts = [np.concatenate([place[part] for place in places]) for part in (slice(FILES), slice(FILES, None))]
    return [(domain.images[part], np.searchsorted(CLASSES, domain.labels[part])) for part in parts]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, digits):
    device = DeviceSettings(num_classes=3, max_samples=12, class_names=tuple(map(str, CLASSES)))
    plan = Plan((LayerPlan("b7.pw2", tuple(range(8))),), device=device)
    training = TrainingSettings(iterations=ITERATIONS, average=0.5, learning_rate=0.003).on(device)
    out = tmp_path_factory.mktemp("page") / "digits"
    return export_tflm(NanoNet(), plan, calibration=digits[1][0], out=out, head="ridge", training=training)


@pytest.fixture(scope="module")
def board(bundle, tmp_path_factory):
    program = build_firmware(bundle, tmp_path_factory.mktemp("firmware"), teaching=True)
    with EmulatedBoard(bundle, program, serial=True) as emulated:
        yield emulated


@pytest.fixture(scope="module")
def address(board, bundle):
    with serve_page(teach_page(bundle.manifest), board.serial_address) as found:
        yield found


def written(folder, images, name):
    """The images as PNG files, pixels that are exact in them."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{name}_{number}.png" for number in range(len(images))]
    for file, image in zip(files, images, strict=True):
        file.write_bytes(tf.io.encode_png(np.round(255 * image).astype(np.uint8)).numpy())
    return files


def draw(browser, points, *, shift=0.0):
    pad = browser["pad"]
    places = [(round((x + shift - 0.5) * pad.size["width"]), round((y - 0.5) * pad.size["height"])) for x, y in points]
    hand = ActionChains(browser.driver, duration=10).move_to_element_with_offset(pad, *places[0]).click_and_hold()
    for place in places[1:]:
        hand.move_to_element_with_offset(pad, *place)
    hand.release().perform()


def choose(browser, source):
    browser.driver.find_element("css selector", f"[value={source}]").click()


def pick(browser, button, files):
    """Files for what a button asks them for."""
    browser[button].click()
    browser["pictures"].send_keys("\n".join(map(str, files)))
    return browser.wait()


def predicted(browser, files):
    """The page's answers to files, one by one."""
    answers = []
    for file in files:
        assert pick(browser, "predict", [file])[1] == ""
        answers.append(browser["answer"].text)
    return answers


def test_session(browser, board, bundle, address, digits, tmp_path, capsys):
    (taught, labels), (queries, truth) = digits
    files = written(tmp_path / "taught", taught, "digit")
    asked = written(tmp_path / "asked", queries, "query")
    host = HostRuntime(bundle)
    board.start()
    browser.looks(width=1280, height=2400, dark=False)  # all of the page, so that the alert covers nothing
    with board.serial_port():
        browser.driver.get(address)
        browser.run(NOTED)
        assert browser.click("connect-emulated") == ("Connected to digits.", "")

        # Each class by two drawings and two files.
        for label, digit in enumerate(CLASSES):
            for shift in (0.0, 0.06):
                draw(browser, STROKES[digit], shift=shift)
                assert browser.click(f"add-{label}") == (f"Added to {digit}.", "")
        assert browser.click("add-0")[1] == "The pad is empty: draw something on it first."
        choose(browser, "files")
        for label in range(3):
            chosen = [file for file, each in zip(files, labels, strict=True) if each == label]
            assert pick(browser, f"add-{label}", chosen) == ("Added 2 samples.", "")
        assert "room for 0 more samples" in pick(browser, "add-0", files[:1])[1]
        assert browser["room"].text == "12 of 12 places for samples are taken."
        noted = browser.run("return self.noted;")
        images = np.array([image for _, image in noted], np.int64).reshape(-1, 32, 32, 1)
        x = ((images - bundle.input["zero_point"]) * bundle.input["scale"]).astype(np.float32)
        y = np.array([label for label, _ in noted])
        np.testing.assert_array_equal(images[6:], quantise_samples(bundle.input, np.round(255 * taught) / 255))

        # Another tab shows the same samples, with pictures: nothing was lost with the old one.
        browser.driver.refresh()
        assert browser.click("connect-emulated")[1] == ""
        shown = browser.driver.find_elements("css selector", ".samples img")
        assert [each.get_attribute("alt") for each in shown] == [
            f"sample {i} of {digit}" for digit in CLASSES for i in range(1, 5)
        ]
        choose(browser, "files")

        # Solved as on this machine.
        host.add_samples(x, y)
        right = int(np.sum(host.solve().argmax(axis=1) == y))
        browser.click("solve")
        assert browser["learned"].text == f"Solved: {right} of 12 samples are right by the solution without them."
        names = np.array(list(map(str, CLASSES)))
        solved = host.predict_classes(queries)
        assert predicted(browser, asked[:3]) == names[solved[:3]].tolist()

        # Trained as on this machine, until it is stopped.
        browser["train"].click()
        browser.run("while (lesson.losses.length < 2) await wait(5); byId('stop').click();")
        assert browser.wait() == ("Trained. Try it, then save it.", "")
        losses = browser.run("return lesson.losses;")
        assert 2 <= len(losses) < ITERATIONS
        assert browser["losses"].is_displayed() and f"after {len(losses)} iterations" in browser["losses"].get_attribute(
            "aria-label"
        )
        again = HostRuntime(bundle, settings={"iterations": len(losses)})
        again.add_samples(x, y)
        assert losses == [float(f"{loss:.6f}") for loss in again.train()]
        answers = predicted(browser, asked)
        assert answers == names[again.predict_classes(queries)].tolist()
        shares = [row.text for row in browser.driver.find_elements("css selector", "#bars .words")]
        logits = np.exp(again.predict(queries[-1:])[0] - again.predict(queries[-1:])[0].max())
        assert shares == [f"{round(100 * share)} %" for share in logits / logits.sum()]
        assert browser.axe() == {}

        # Saved, and the delta comes to the browser as it is on the board.
        assert browser.click("save")[1] == "" and "stays after a power cycle" in browser["kept"].text
        delta = bytes(browser.run("return Array.from(await lesson.board.delta());"))
        assert delta == again.trainer.save_delta(Delta.from_bytes(delta).sequence)
        browser.click("disconnect")

    board.start()  # as after a power cut
    np.savez(tmp_path / "queries.npz", x=queries, y=truth)
    with board.serial_port() as port:
        assert browser.click("connect-emulated")[1] == "" and browser["room"].text.startswith("0 of 12")
        assert predicted(browser, asked) == answers
        accuracy = np.mean(np.array(answers) == names[truth])
        browser.click("disconnect")
        assert (
            main(
                ["device", "--port", port, "predict", "--samples", str(tmp_path / "queries.npz"), "--bundle", str(bundle.path)]
            )
            == 0
        )
        assert f"accuracy {accuracy:.3f}" in capsys.readouterr().out

        # Forgotten for good, and brought back by the file.
        browser.click("connect-emulated")
        browser["factory"].click()
        browser.driver.find_element("css selector", "#sure button[value=yes]").click()
        assert browser.wait() == ("As exported for good: samples, learning and saves are gone.", "")
        (tmp_path / "digits.delta").write_bytes(delta)
        browser["delta-file"].send_keys(str(tmp_path / "digits.delta"))
        assert browser.wait() == ("Loaded and saved. Try it.", "")
        assert predicted(browser, asked[:3]) == answers[:3]
        other = bytearray(delta)
        other[20] ^= 1
        (tmp_path / "other.delta").write_bytes(Delta.from_bytes(delta).to_bytes()[:-1])
        browser["delta-file"].send_keys(str(tmp_path / "other.delta"))
        assert "is no whole delta" in browser.wait()[1]

        # A sample is taken back.
        pick(browser, "add-1", files[:2])
        browser.driver.find_element("css selector", "#classes .samples button").click()
        assert browser.wait()[1] == "" and browser["room"].text.startswith("1 of 12")
        browser.click("disconnect")
    assert browser.console() == []


def test_only_the_page_itself_speaks_with_the_board(address):
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    with urllib.request.urlopen(address) as page:
        assert page.headers["Content-Type"].startswith("text/html")
    host = address.split("/")[2]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://{host}/")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(urllib.request.Request(address, headers={"Host": "evil.example"}))
    socket = address.replace("http:", "ws:") + "serial"
    for origin in (None, "http://evil.example", "null"):
        with pytest.raises(InvalidStatus, match="403"):
            connect(socket, origin=origin)
    with pytest.raises(InvalidStatus, match="404"):
        connect(f"ws://{host}/serial", origin=f"http://{host}")
