"""The page in a real Chromium, by default against the made-up service.

`VALUEREC_PAGE_URL=http://127.0.0.1:8000` runs against a service that is up already what needs no faults or hostile ids
(start it with `--deadline 10` where the machine is busy: a 503 is an error in the console).
`VALUEREC_CHROMIUM` names a browser; else the system's is taken. Without one the tests are reported as not run.
`VALUEREC_SCREENSHOTS` names the folder of the screenshots, else a temporary one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.page.fake import Service, World
from serving.page.looking import Looking

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One a file of tests: while Playwright runs, its loop is the thread's, and tests of the service want their own."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: the page was not tested")
    found = os.environ.get("VALUEREC_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip("Chromium is missing (apt-get install chromium): the page was not tested")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.down()


@pytest.fixture
def base_url(service: Service) -> str:
    if real := os.environ.get("VALUEREC_PAGE_URL"):
        return real.rstrip("/")
    service.become(World())
    return service.url


@pytest.fixture
def world(base_url: str, service: Service) -> World:
    """The made-up service's world, to make it slow, failing or hostile."""
    if base_url != service.url:
        pytest.skip("needs the made-up service, and VALUEREC_PAGE_URL names another")
    return service.world


@pytest.fixture
def look(browser: Any, base_url: str) -> Iterator[Looking]:
    """The page at 1280 px, and after the test: no error, no dialog, no request to anywhere else."""
    looking = Looking(browser, base_url)
    yield looking
    looking.close()
    looking.check()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("VALUEREC_SCREENSHOTS") or tmp_path_factory.mktemp("page"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
