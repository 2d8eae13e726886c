"""A headless Chromium, and how a test looks at a page in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from support.page import until

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def open_browser():
    """A driver, to be quit; skips where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Chromium and chromedriver (apt-get install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    found.set_window_size(1280, 1000)
    return found


def find(browser, css):
    return browser.find_elements("css selector", css)


def shown(browser, css, text="", seconds=60):
    """Wait until something is there, and says what it should."""
    return until(lambda: _sought(browser, css, text), seconds)


def _sought(browser, css, text):
    from selenium.common.exceptions import StaleElementReferenceException

    try:
        return next((one for one in find(browser, css) if text in one.text), None)
    except StaleElementReferenceException:
        return None  # drawn anew just now


def click(browser, css, text=""):
    """Click something once it is there; again when it was drawn anew under the finger."""
    from selenium.common.exceptions import StaleElementReferenceException

    def try_it():
        try:
            found = shown(browser, css, text)
            browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
            found.click()
        except StaleElementReferenceException:
            return False
        return True

    until(try_it)


def sized(browser, width: int) -> None:
    """Emulate a screen: a phone's, or (0) the window's own again."""
    if not width:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        return
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )


def photograph(browser, name: str) -> None:
    """Keep the whole page as a picture, on a desktop and a phone, where $AUSCULT_PICTURES says."""
    folder = os.environ.get("AUSCULT_PICTURES")
    if not folder:
        return
    for word, width in (("desktop", 1280), ("phone", 390)):
        sized(browser, width)
        height = browser.execute_script("return document.documentElement.scrollHeight")
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {
                "width": width,
                "height": min(height, 3000),
                "deviceScaleFactor": 1,
                "mobile": width < 500,
            },
        )
        until(lambda: browser.execute_script("return document.readyState") == "complete")
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(folder) / f"{name}-{word}.png"))
    sized(browser, 0)


def violations(browser) -> list[str]:
    """What axe-core finds amiss with the page shown; skips without $AUSCULT_AXE.

    `npm pack axe-core` and unpack it; $AUSCULT_AXE is its `axe.min.js`.
    """
    place = os.environ.get("AUSCULT_AXE")
    if not place:
        pytest.skip("needs axe-core: npm pack axe-core, and its axe.min.js as $AUSCULT_AXE")
    browser.execute_script(Path(place).read_text())
    found = browser.execute_async_script(
        "axe.run(document, {resultTypes: ['violations']}).then(arguments[0])"
    )
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"]]
