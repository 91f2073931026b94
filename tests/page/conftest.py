"""A browser without a window, and a page of a bundle that need not be exported."""

import pathlib
import shutil

import pytest

from keras_tinytrain.export.page.teach_page import teach_page

FACTS = {  # of a manifest: 2 x 2 grey pixels, three classes
    "name": "net",
    "namespace": "bundle_net",
    "base_hash": "ab" * 32,
    "board": {"name": "nano33ble", "sram_bytes": 262144, "flash_bytes": 983040},
    "class_names": [],
    "sample_values": {"scale": 1.0, "offset": 0.0},
    "input": {"height": 2, "width": 2, "channels": 1, "scale": 0.5, "zero_point": 0},
    "head": "prototypes",
    "sketch": "serial",
    "sram": {"total": 100_000},
    "flash": {"total": 400_000},
    "training": {"num_classes": 3, "max_samples": 9, "iterations": 2, "logit_scale": 10.0},
}


class Browser:
    """Chromium, and how a test looks at a page in it."""

    def __init__(self, folder: pathlib.Path):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for option in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1280,2400",
            f"--user-data-dir={folder}",
        ):
            options.add_argument(option)
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        self.driver.set_script_timeout(60)

    def __getitem__(self, name):
        return self.driver.find_element("id", name)

    def run(self, script, *arguments):
        """The value of a script that may wait."""
        script = f"const done = arguments[arguments.length - 1]; (async (...args) => {{ {script} }})(...arguments).then(done, (e) => done('failed: ' + e.message));"
        value = self.driver.execute_async_script(script, *arguments)
        assert not (isinstance(value, str) and value.startswith("failed: ")), value
        return value

    def wait(self):
        """Until the action has ended. Returns what the page says, and what it complains about."""
        self.run("while (busy) await wait(20);")
        return self["said"].text, self.complaint

    @property
    def complaint(self):
        return self.run('return byId("alert").hidden ? "" : byId("alert").firstElementChild.textContent;')

    def click(self, name):
        self[name].click()
        return self.wait()

    def console(self):
        """What the page wrote on its console: errors, and what its policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def axe(self):
        """Findings of axe-core, as names of rules and the elements."""
        import axe_core_python

        self.driver.execute_script((pathlib.Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        found = self.run("return (await axe.run()).violations.map((v) => [v.id, v.nodes.map((n) => n.html)]);")
        return dict(found)

    def looks(self, *, width, dark, height=900):
        """A window of this size, with light or dark colours."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """One browser for all tests of pages."""
    if missing := [program for program in ("chromium", "chromedriver") if shutil.which(program) is None]:
        pytest.skip(f"needs {' and '.join(missing)}: apt-get install --no-install-recommends chromium chromium-driver")
    found = Browser(tmp_path_factory.mktemp("browser"))
    yield found
    found.driver.quit()


@pytest.fixture(scope="session")
def open_page(browser, tmp_path_factory):
    """`open_page(**facts)`: the page of a bundle like FACTS in the browser, as a file."""

    def open_it(**facts):
        file = tmp_path_factory.mktemp("page") / "teach.html"
        file.write_text(teach_page({**FACTS, **facts}), encoding="utf-8")
        browser.driver.get(file.as_uri())
        return browser

    return open_it
