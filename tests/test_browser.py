import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.conftest import missing
from tests.serving import TINY, Service, serving, wait_for

pytestmark = pytest.mark.browser


@pytest.fixture
def browser() -> Iterator[webdriver.Chrome]:
    """Headless Chromium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        missing("browser", "Chromium and its driver are not installed")
        return
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path / "data") as service:
        yield service


def test_the_documentation_needs_no_other_site(browser: webdriver.Chrome, service: Service) -> None:
    """/docs draws every operation from files of the service alone."""
    browser.get(f"{service.url}/docs")
    WebDriverWait(browser, 30).until(lambda page: len(page.find_elements(By.CSS_SELECTOR, ".opblock")) >= 15)
    sources = [element.get_attribute("src") for element in browser.find_elements(By.CSS_SELECTOR, "script[src]")]
    assert sources
    assert all(source and source.startswith(service.url) for source in sources)
    if folder := os.environ.get("TUNER_SCREENSHOTS"):
        browser.save_screenshot(f"{folder}/docs.png")


def test_the_dashboard_shows_our_trials(browser: webdriver.Chrome, service: Service) -> None:
    """In a real browser the dashboard on the service's port lists the study and draws its four trials."""
    service.post("/v1/studies", TINY)
    wait_for(lambda: service.get("/v1/studies/tiny")["state"] == "succeeded", "the study has ended", 60)
    browser.get(f"{service.url}/dashboard")
    WebDriverWait(browser, 30).until(lambda page: "tiny" in page.find_element(By.TAG_NAME, "body").text)
    browser.get(f"{service.url}/dashboard/studies/1")
    WebDriverWait(browser, 30).until(lambda page: len(page.find_elements(By.CSS_SELECTOR, ".scatterlayer .point")) >= 4)
    if folder := os.environ.get("TUNER_SCREENSHOTS"):
        browser.save_screenshot(f"{folder}/dashboard.png")
