"""The page at a port that is silent, lies, chatters or ends: no wait without end, and one sentence each."""

import json
import time

import pytest

pytestmark = pytest.mark.trust
STATUS = (
    "OK network bundle_net scale 0.5 runs learned height 2 width 2 channels 1 zero_point 0 classes 3 max_samples 9 samples 0 "
    "iterations 2 records 0 protocol 2 saves 1 lasting 1\r\n"
)
ANSWERS = {  # of a board that answers well
    "STATUS": "PLAN conv 2\r\n" + STATUS,
    "SAMPLES": "SAMPLE 0 1 5\r\nOK samples 1\r\n",
    "TEACH": "OK samples 1\r\n",
    "PREDICT": "OK label 2\r\n",
    "SCORES": "OK thousandths 0 0 1000\r\n",
    "TRAIN": "LOSS 0 1.500000\r\nLOSS 1 0.500000\r\nPLAN conv 2\r\nOK milliseconds 12\r\n",
    "SAVE": "OK\r\n",
    "DELTA": "OK bytes 52\r\n" + "A" * 52,
    "REMOVE": "OK samples 0\r\n",
}
# A port in the page's place for one: `answers` by the command's word (no word: none), `chatter` every few milliseconds from the
# beginning or after the first answer, or its end after the first command.
PORT = """
class Fake extends Port {
  constructor({ answers = {}, chatter = "", after = false, ends = false, deaf = false }) {
    super();
    Object.assign(this, { answers, chatter, ends, deaf });
    if (!after) this.talk();
  }
  talk() {
    if (this.chatter && !this.timer) this.timer = setInterval(() => this.onBytes(Uint8Array.from(this.chatter, (c) => c.charCodeAt(0))), 5);
  }
  async write(bytes) {
    if (this.deaf) throw new Error("no");
    if (this.ends) return setTimeout(() => this.onEnd("it was unplugged"), 10);
    for (const line of new TextDecoder("latin1").decode(bytes).split("\\n")) {
      const answer = this.answers[line.split(" ")[0]];
      if (answer) setTimeout(() => { this.onBytes(new TextEncoder().encode(answer)); this.talk(); }, 1);
    }
  }
  async close() { clearInterval(this.timer); }
}
self.fake = new Fake(args[0]);
"""
PATIENCE = {"patience": 0.7, "quiet": 0.15, "seconds": 0.4}


@pytest.fixture(scope="module")
def opened(open_page):
    return open_page()


@pytest.fixture
def page(opened):
    opened.run("localStorage.clear(); await lesson.disconnect();")
    return opened


def connect(browser, **port):
    """Connects to such a port. Returns what the page says, what it complains about, and the seconds that it took."""
    began = time.monotonic()
    browser.run(PORT + f'await act("Connecting", () => connectTo(self.fake, {json.dumps(PATIENCE)}));', port)
    return browser["said"].text, browser.complaint, time.monotonic() - began


def changed(old, new):
    assert old in STATUS
    return {"answers": {"STATUS": STATUS.replace(old, new)}}


NO_BOARDS = {
    "silent": {},
    "ends": {"ends": True},
    "deaf": {"deaf": True},
    "binary": {"chatter": "\x55\xaa\x00"},
    "binary_in_bulk": {"chatter": "\x55\xaa\x00" * 1000},
    "empty_lines": {"chatter": "\r\n"},
    "gps": {"chatter": "$GPGGA,092750.000,5321.6802,N\r\n"},
    "plans_for_ever": {"chatter": "PLAN conv 2\r\n"},
    "modem": {"answers": {"STATUS": "ERROR\r\n"}},
    "half_a_status": {"answers": {"STATUS": STATUS[:40]}},
    "talks_on": {"answers": {"STATUS": STATUS}, "chatter": "hello\r\n", "after": True},
    "talks_on_in_statuses": {"answers": {"STATUS": STATUS}, "chatter": STATUS, "after": True},
    "without_records": changed(" records 0", ""),
    "a_name_too_many": changed(" lasting 1", " lasting"),
    "scale_0": changed("scale 0.5", "scale 0"),
    "scale_nan": changed("scale 0.5", "scale nan"),
    "height_negative": changed("height 2", "height -2"),
    "height_huge": changed("height 2 width 2", "height 99999 width 99999"),
    "samples_in_words": changed("samples 0", "samples four"),
    "not_ascii": changed("height 2", "height ²"),
    "plan_without_number": {"answers": {"STATUS": "PLAN conv\r\n" + STATUS}},
}
OTHER_BUNDLES = {
    "another": changed("bundle_net", "bundle_other"),
    "another_export": changed("height 2 width 2", "height 4 width 4"),
    "other_classes": changed("classes 3", "classes 5"),
}


@pytest.mark.parametrize("kind", NO_BOARDS)
def test_no_board_is_said_within_the_deadline(page, kind, tried):
    said, complaint, seconds = connect(page, **NO_BOARDS[kind])
    assert (said, page.run("return lesson.board;")) == ("Not connected.", None)
    assert complaint.startswith(
        ("There is no such board", "Nobody answers", "The connection ended", "The board cannot be written to")
    )
    assert seconds < 4 and page.console() == []
    tried("port without a board, or with one that lies", 1, 1)


@pytest.mark.parametrize("kind", OTHER_BUNDLES)
def test_another_bundle_is_refused(page, kind):
    said, complaint, _ = connect(page, **OTHER_BUNDLES[kind])
    assert said == "Not connected." and "open the teach.html of" in complaint


LIES = {
    "teach_ok_alone": ("lesson.teach([{ image: new Int8Array(4), label: 1 }])", {"TEACH": "OK\r\n"}),
    "teach_label": ("lesson.teach([{ image: new Int8Array(4), label: 1 }])", {"TEACH": "OK label 1\r\n"}),
    "teach_dies": ("lesson.teach([{ image: new Int8Array(4), label: 1 }])", {"TEACH": ""}),
    "teach_halfway": ("lesson.teach([{ image: new Int8Array(4), label: 1 }])", {"TEACH": "OK samp"}),
    "predict_ok_alone": ("lesson.predict(new Int8Array(4))", {"PREDICT": "OK\r\n"}),
    "predict_chatter": ("lesson.predict(new Int8Array(4))", {"PREDICT": "hello\r\n"}),
    "scores_too_few": ("lesson.predict(new Int8Array(4))", {"SCORES": "OK thousandths 1 2\r\n"}),
    "train_ok_alone": ("lesson.train(() => {})", {"TRAIN": "OK\r\n"}),
    "train_loss_in_words": ("lesson.train(() => {})", {"TRAIN": "LOSS 0 much\r\nOK milliseconds 1\r\n"}),
    "train_long_line": ("lesson.train(() => {})", {"TRAIN": "LOSS " + "0" * 4000}),
    "save_plans": ("lesson.obey('save')", {"SAVE": "PLAN conv 2\r\n"}),
    "samples_in_words": ("lesson.refresh()", {"SAMPLES": "SAMPLE one 2 3\r\nOK samples 1\r\n"}),
    "delta_too_long": ("lesson.board.delta()", {"DELTA": "OK bytes 99999999\r\n"}),
    "remove_label": ("lesson.remove({ place: 0 })", {"REMOVE": "OK label 0\r\n"}),
}


@pytest.mark.parametrize("kind", LIES)
def test_an_answer_that_no_board_gives_ends_the_connection(page, kind, tried):
    assert connect(page, answers=ANSWERS)[:2] == ("Connected to net.", "")
    command, answers = LIES[kind]
    began = time.monotonic()
    page.run(f"Object.assign(self.fake.answers, args[0]); await act('', () => {command});", answers)
    assert page["said"].text == "Not connected." and time.monotonic() - began < 3
    assert page.complaint.startswith(("There is no such board", "The board did not answer"))
    tried("port without a board, or with one that lies", 1, 1)


def test_a_delta_that_was_altered_is_refused_and_the_board_stays(page):
    connect(page, answers=ANSWERS)
    page.run("await act('', () => lesson.board.delta());")
    assert "cut off or altered" in page.complaint and page["said"].text == "Connected."


def test_the_board_s_own_no_leaves_the_connection(page):
    connect(page, answers={**ANSWERS, "TEACH": "ERROR max_samples are stored already; call ClearSamples first\r\n"})
    page.run("await act('', () => lesson.teach([{ image: new Int8Array(4), label: 1 }]));")
    assert page.complaint == "The board says no: it has no place for another sample. Take samples back, or forget them all."
    assert page["said"].text == "Connected."


def test_a_port_that_ends_is_told_at_once(page):
    connect(page, answers=ANSWERS)
    page.run('self.fake.onEnd("it was unplugged"); await wait(20);')
    page.wait()
    assert page.complaint == "The connection ended (it was unplugged): plug the board in again and connect."
    assert page["said"].text == "Not connected."


def test_a_board_without_the_further_commands_is_taught_all_the_same(page):
    answers = {name: text for name, text in ANSWERS.items() if name not in ("SAMPLES", "SCORES")}
    unknown = "ERROR commands are TEACH <label> <crc>, PREDICT <crc>, TRAIN, STATUS, REVERT, RESET\r\n"
    connect(
        page, answers={**answers, "SAMPLES": unknown, "SCORES": unknown, "STATUS": STATUS.replace("samples 0", "samples 1")}
    )
    page.run("await act('', () => lesson.teach([{ image: new Int8Array(4), label: 1 }]));")
    assert page.complaint == "" and page.run("return lesson.samples.length;") == 1
    assert page.run("return (await lesson.predict(new Int8Array(4))).label;") == 2
    assert page.run("return document.querySelectorAll('.samples button').length;") == 0
