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
    ("words", "told"), [(["nowhere"], "nowhere is not a bundle"), (["nowhere", "--out", "teach.pdf"], "ends in .html")]
)
def test_command_says_what_is_wrong(words, told, capsys):
    assert main(["page", *words]) == 2 and told in capsys.readouterr().err


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
    browser["name-1"].send_keys(Keys.CONTROL + "a")
    browser["name-1"].send_keys("a cup" + Keys.TAB)
    browser.run('lesson.memory.thumbnails[7] = "data:,"; lesson.memory.keep();')
    browser.driver.refresh()
    assert browser["name-1"].get_attribute("value") == "a cup"
    assert browser.run("return lesson.memory.thumbnails[7];") == "data:,"
