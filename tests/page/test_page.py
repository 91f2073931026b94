"""teach.html: one file, safe whatever a bundle says of itself, and usable by everybody."""

import html
import json
import re

import pytest
from selenium.webdriver.common.keys import Keys

from keras_tinytrain.cli import main
from keras_tinytrain.export.page.teach_page import teach_page
from tests.page.conftest import FACTS

HOSTILE = '</script><script>alert("x")</script>'


def test_page_names_nothing_outside_itself_and_escapes_a_bundle_s_words():
    text = teach_page({**FACTS, "name": HOSTILE, "class_names": [HOSTILE, "b", "c"]})
    assert text.count("<script") == 2 and "alert(&#34;x&#34;)" in text
    facts = json.loads(re.search(r'<script type="application/json" id="facts">(.*?)</script>', text)[1])
    assert facts["class_names"][0] == facts["name"] == HOSTILE
    addresses = set(re.findall(r"(?:https?|wss?):[^\s\"'`;]*", html.unescape(text)))
    assert addresses == {
        "http:",
        "http://www.w3.org/2000/svg",
        "ws://${location.host}${location.pathname}serial",
        "ws://127.0.0.1:*",
    }
    assert "url(" not in text


def test_page_of_a_bundle_of_release_0_1_is_written():
    assert "Teach net" in teach_page(
        {name: value for name, value in FACTS.items() if name not in ("class_names", "sample_values")}
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere is not a bundle: there is no such folder"),
        (["nowhere", "--out", "teach.pdf"], "ends in .html"),
        (["."], ". is not a bundle: that folder holds no manifest.json. Name the folder that an export wrote."),
        (["model.keras"], "model.keras is not a bundle: it is a file"),
    ],
)
def test_command_says_what_is_wrong(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.keras").touch()
    assert main(["page", *words]) == 2 and told in capsys.readouterr().err


def named(browser, label, name):
    browser[f"name-{label}"].send_keys(Keys.CONTROL + "a")
    browser[f"name-{label}"].send_keys((name or Keys.DELETE) + Keys.TAB)
    return browser[f"name-{label}"].get_attribute("value"), browser.complaint


def test_hostile_names_run_nothing(open_page):
    browser = open_page(name=HOSTILE, class_names=[HOSTILE, "<img src=x onerror=alert(1)>", "c"])
    assert browser["name-0"].get_attribute("value") == HOSTILE[:60] or browser["name-0"].get_attribute("value") == HOSTILE
    browser.console()
    browser.run('const s = document.createElement("script"); s.textContent = "window.ran = 1"; document.body.append(s);')
    assert browser.run("return window.ran ?? null;") is None
    assert "Content Security Policy" in " ".join(browser.console())


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing(open_page, width, dark):
    browser = open_page(closed_form={"reject_unknown": 0.1})
    browser.looks(width=width, dark=dark)
    browser.run('fail("The board does not answer."); return 0;')
    assert browser.axe() == {}
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth;")


@pytest.mark.parametrize(
    ("facts", "status", "expected"),
    [
        ({}, {}, ["draw", "camera", "files"]),
        ({"input": {**FACTS["input"], "height": 75, "width": 1, "channels": 6}}, {}, ["files"]),
        ({}, {"records": 1}, ["sensor"]),
    ],
)
def test_samples_come_from_where_the_board_can_take_them(open_page, facts, status, expected):
    browser = open_page(**facts)
    shown = 'return [...document.querySelectorAll("[name=source]")].filter((r) => !r.parentElement.hidden).map((r) => r.value);'
    assert browser.run(f"lesson.status = args[0]; show(); {shown}", status) == expected
    assert browser.console() == []


def test_pad_is_drawn_on_by_keys(open_page):
    browser = open_page(input={**FACTS["input"], "height": 8, "width": 8})
    assert browser.run("return pad.isEmpty;")
    browser["pad"].send_keys(Keys.SPACE, Keys.ARROW_DOWN * 4, Keys.SPACE)
    assert not browser.run("return pad.isEmpty;")
    column = browser.run("return Array.from(imageOfPicture(pad.picture(), facts)).filter((_, i) => i % 8 === 4);")
    assert column[0] == 0 and column[4] > 0


def test_names_and_thumbnails_outlive_the_tab(open_page):
    browser = open_page()
    assert named(browser, 1, "a cup") == ("a cup", "")
    browser.run('lesson.memory.thumbnails[7] = "data:,"; lesson.memory.keep();')
    browser.driver.refresh()
    assert browser["name-1"].get_attribute("value") == "a cup"
    assert browser.run("return lesson.memory.thumbnails[7];") == "data:,"


def test_two_classes_have_two_names(open_page):
    browser = open_page(namespace="bundle_of_names", class_names=["cup", "ball", "tent"])
    assert named(browser, 1, " cup ") == ("ball", 'Another class is called "cup": give this one a name of its own.')
    assert named(browser, 1, "mug") == ("mug", "") and named(browser, 0, "ball") == ("ball", "")
    assert named(browser, 1, "") == ("mug", 'Another class is called "ball": give this one a name of its own.')
    assert named(browser, 0, "") == ("cup", "") and named(browser, 1, "") == ("ball", "")


def test_too_many_files_are_refused_before_one_is_read(open_page):
    browser = open_page()
    assert browser.run(
        """lesson.status = { max_samples: 9, samples: 8 };
        const file = { get name() { throw new Error("it was read"); } };
        return samplesOf([file, file], 0).catch((error) => error.message);"""
    ) == ("The board has room for 1 more sample and 2 were chosen: choose fewer, or take samples back.")


def test_one_file_is_asked_at_a_time_and_several_are_taught(open_page):
    browser = open_page()
    asked = """byId("pictures").click = () => {};
    document.querySelector("[value=files]").click();
    return [() => predict(), () => add(0)].map((press) => (press(), byId("pictures").multiple));"""
    assert browser.run(asked) == [False, True]


def test_training_without_a_class_says_what_it_may_forget(open_page):
    browser = open_page(namespace="bundle_of_three", head="softmax", class_names=["cup", "ball", "tent"])
    browser.run(
        """lesson.samples = [{ place: 0, label: 1, crc: 0, thumbnail: null }];
        lesson.train = async () => 1;
        lesson.status = { samples: 1 };
        await train();"""
    )
    assert browser["said"].text == (
        "Trained without a sample of cup, tent: the board may forget what it knew of them. Add some, and train again."
    )


def test_nothing_is_learned_from_nothing(open_page):
    browser = open_page()
    for learn in ("train", "solve"):
        browser.run(f"byId('alert').hidden = true; lesson.status = {{ samples: 0 }}; {learn}();")
        assert browser.complaint == "There is nothing to learn from yet: add samples to the classes first."
