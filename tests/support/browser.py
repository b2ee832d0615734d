"""A headless browser for what people look at: MLflow's pages and zpipe's own."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1600,1900",
)


@contextmanager
def headless(chromium: str) -> Iterator[Any]:
    """A Chromium that ends with the block."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in _FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()


def text_of(browser: Any, url: str, *wanted: str, seconds: float = 60) -> str:
    """The page's text as soon as it has every wanted word."""
    browser.get(url)
    deadline = time.monotonic() + seconds
    text = ""
    while time.monotonic() < deadline:
        text = str(browser.execute_script("return document.body.innerText"))
        if all(word in text for word in wanted):
            return text
        time.sleep(0.5)
    raise AssertionError(
        f"{[word for word in wanted if word not in text]} is not on the page:\n{text[:3000]}"
    )


def picture(browser: Any, name: str) -> None:
    """Keeps a screenshot for the documentation in the folder ZPIPE_SCREENSHOTS, if that is set."""
    folder = os.environ.get("ZPIPE_SCREENSHOTS")
    if folder:
        time.sleep(3)
        browser.save_screenshot(str(Path(folder) / name))
