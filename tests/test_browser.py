"""A real browser at a service with tokens: what it is shown, and what another site's page can do with its session."""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.conftest import missing
from tests.serving import TINY, Service, serving, small_nets, wait_for
from tuner.client import Client
from tuner.settings import Settings

pytestmark = pytest.mark.browser

SECONDS = 30


@pytest.fixture(scope="module")
def chrome() -> Iterator[webdriver.Chrome]:
    """Headless Chromium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        missing("browser", "Chromium and its driver are not installed")
        return
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, str]:
    """Settings of a service, and the token of its operator."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("browser") / "data")
    with Client.in_process(settings) as client:
        return settings, client.create_token("ana", "operator").token


@pytest.fixture(scope="module")
def service(token: tuple[Settings, str]) -> Iterator[Service]:
    """It listens on every address, which it may, since there is a token."""
    with serving(token[0].data_dir, token=token[1], TUNER_HOST="0.0.0.0", TUNER_TRUSTED_PROXIES="127.0.0.1") as service:
        yield service


@pytest.fixture
def browser(chrome: webdriver.Chrome, service: Service, token: tuple[Settings, str]) -> Iterator[webdriver.Chrome]:
    """Logged in through the login page, to which the dashboard has led it."""
    chrome.delete_all_cookies()
    chrome.get(f"{service.url}/dashboard")
    assert chrome.current_url == f"{service.url}/login"
    chrome.find_element(By.NAME, "token").send_keys(token[1])
    chrome.find_element(By.TAG_NAME, "button").click()
    WebDriverWait(chrome, SECONDS).until(lambda page: page.title == "Optuna Dashboard")
    complaints(chrome)
    yield chrome
    keep_picture(chrome, os.environ["PYTEST_CURRENT_TEST"].split("::")[1].split(" ")[0])


def complaints(chrome: webdriver.Chrome) -> list[str]:
    """What the console says of refused scripts, styles and the like, since it was last asked."""
    log: list[dict[str, str]] = chrome.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in log if "Content Security Policy" in entry["message"]]


def keep_picture(chrome: webdriver.Chrome, name: str) -> None:
    if folder := os.environ.get("TUNER_SCREENSHOTS"):
        chrome.save_screenshot(f"{folder}/{name}.png")


def test_an_open_address_and_a_proxy(service: Service) -> None:
    """With a token in the database alone the service starts on an open address and watches its own API; nobody else comes in
    without one. A proxy that the settings name is believed to have been asked by https."""
    answer = httpx.get(f"{service.url}/readyz", headers={"X-Forwarded-Proto": "https"}, verify=False)
    assert answer.status_code == 401
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_the_documentation_needs_no_other_site(browser: webdriver.Chrome, service: Service) -> None:
    """/docs draws every operation from files of the service alone, within its policy."""
    browser.get(f"{service.url}/docs")
    WebDriverWait(browser, SECONDS).until(lambda page: len(page.find_elements(By.CSS_SELECTOR, ".opblock")) >= 15)
    sources = [element.get_attribute("src") for element in browser.find_elements(By.CSS_SELECTOR, "script[src]")]
    assert sources
    assert all(source and source.startswith(service.url) for source in sources)
    assert complaints(browser) == []


def test_the_dashboard_shows_our_trials(browser: webdriver.Chrome, service: Service) -> None:
    """On the service's port it lists the study, and draws its four trials and their analysis within its policy."""
    service.post("/v1/studies", TINY)
    wait_for(lambda: service.get("/v1/studies/tiny")["state"] == "succeeded", "the study has ended", 150)
    browser.get(f"{service.url}/dashboard")
    WebDriverWait(browser, SECONDS).until(lambda page: "tiny" in page.find_element(By.TAG_NAME, "body").text)
    browser.get(f"{service.url}/dashboard/studies/1")
    WebDriverWait(browser, SECONDS).until(
        lambda page: len(page.find_elements(By.CSS_SELECTOR, ".scatterlayer .point")) >= 4
    )
    browser.get(f"{service.url}/dashboard/studies/1/analytics")
    WebDriverWait(browser, SECONDS).until(lambda page: page.find_elements(By.CSS_SELECTOR, ".contourlayer .contour"))
    assert complaints(browser) == []


def test_a_person_logs_out(browser: webdriver.Chrome, service: Service) -> None:
    """The login's page says who one is; after its button the dashboard asks again."""
    browser.get(f"{service.url}/login")
    assert "logged in as ana, operator" in browser.find_element(By.TAG_NAME, "body").text
    browser.find_element(By.TAG_NAME, "button").click()
    WebDriverWait(browser, SECONDS).until(lambda page: page.find_elements(By.NAME, "token"))
    browser.get(f"{service.url}/dashboard")
    assert browser.current_url == f"{service.url}/login"
    assert complaints(browser) == []


ATTACK = """<!doctype html><meta charset="utf-8"><title>attack</title><iframe name="hidden"></iframe><script>
const victim = "VICTIM", study = JSON.stringify({name: "theirs"}), all = {credentials: "include"}
const json = {...all, headers: {"Content-Type": "application/json"}}
const reads = async (path, options) => (await fetch(victim + path, options)).text()
const loads = (tag, path) => new Promise((resolve, reject) => {
  const element = document.createElement(tag)
  element.onload = () => tag === "iframe" ? resolve(element.contentDocument?.body.innerText ?? "") : resolve("loaded")
  element.onerror = reject
  element.src = victim + path
  document.body.append(element)
})
const submits = (path, fields) => new Promise(resolve => {
  const form = document.createElement("form")
  Object.assign(form, {method: "post", action: victim + path, enctype: "text/plain", target: "hidden"})
  form.innerHTML = `<input name='${fields}'>`
  document.body.append(form)
  document.querySelector("iframe").onload = () => resolve("")
  form.submit()
})
const attacks = {
  reads: () => reads("/v1/studies", all),
  readsWithAToken: () => reads("/v1/studies", {headers: {Authorization: "Bearer guess"}}),
  readsTheDashboard: () => reads("/api/studies", all),
  posts: () => reads("/v1/studies", {...json, method: "POST", body: study}),
  deletes: () => reads("/v1/tokens/ana", {...all, method: "DELETE"}),
  postsBlindly: () => reads("/v1/studies", {...all, mode: "no-cors", method: "POST", body: study}),
  loadsAScript: () => loads("script", "/static/bundle.js"),
  loadsAnImage: () => loads("img", "/favicon.ico"),
  frames: () => loads("iframe", "/v1/studies"),
  submits: () => submits("/v1/studies", study),
  cancels: () => submits("/v1/studies/mine/cancel", ""),
  logsOut: () => submits("/logout", ""),
}
const got = {}
const run = async () => {
  for (const [name, attack] of Object.entries(attacks)) got[name] = await attack().catch(() => "")
  document.title = JSON.stringify(got)
}
addEventListener("load", run)
</script>"""


@pytest.fixture
def another_site(service: Service) -> Iterator[str]:
    """The address of a page on this host and another port: with what it asks, the browser sends the cookie, SameSite or not."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(ATTACK.replace("VICTIM", service.url).encode())

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_another_sites_page_neither_reads_nor_writes(
    browser: webdriver.Chrome, service: Service, another_site: str
) -> None:
    """In a browser that is logged in, a page of another origin gets no answer to anything it tries, and changes nothing."""
    service.post("/v1/studies", small_nets("mine", 500))
    service.post("/v1/studies/mine/pause", {})
    wait_for(lambda: service.get("/v1/studies/mine")["state"] == "paused", "the study is paused")
    before = [(study["name"], study["state"]) for study in service.get("/v1/studies")["items"]]
    browser.get(another_site)
    WebDriverWait(browser, SECONDS).until(lambda page: page.title.startswith("{"))
    got = json.loads(browser.title)
    assert len(got) == 12
    assert set(got.values()) == {""}
    assert [(study["name"], study["state"]) for study in service.get("/v1/studies")["items"]] == before
    assert service.get("/v1/whoami")["name"] == "ana"
    browser.get(f"{service.url}/login")
    assert "logged in as ana" in browser.find_element(By.TAG_NAME, "body").text
