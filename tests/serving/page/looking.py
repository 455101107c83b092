"""A browser's page with what is wanted of it in the tests."""

from __future__ import annotations

import json
import re
import time
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request, urlopen

LISTS = ("relevance", "blend", "value")


class Looking:
    """A page, what it said to the console and whom it asked.

    `faulty` is set by tests in which the service fails: the browser then writes "Failed to load resource" itself.
    """

    def __init__(self, browser: Any, url: str, width: int = 1280, **options: Any) -> None:
        self.url, self.faulty = url, False
        self.context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"uncaught: {error}"))
        self.page.on("dialog", self._dialog)
        self.context.on("request", lambda request: self.asked.append(request.url))

    def _dialog(self, dialog: Any) -> None:
        self.said.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def go(self, **state: Any) -> Looking:
        """Open a view: keywords are the hash's, a list repeats its key."""
        self.page.goto(f"{self.url}/#{urlencode(state, doseq=True, quote_via=quote)}")
        self.page.reload()  # a change of the hash alone is no new page
        if state.get("view") != "model":
            self.answered()
        return self

    def answered(self) -> None:
        """Wait until nothing is being asked and rows are shown."""
        self.until("document.getElementById('columns').ariaBusy === 'false' && document.querySelector('.row') !== null")

    def until(self, condition: str, argument: Any = None) -> None:
        """Wait for a condition in JavaScript; Playwright's own way of waiting needs what the policy forbids."""
        last = time.monotonic() + 20
        while not self.page.evaluate(condition, argument):
            assert time.monotonic() < last, f"waited in vain for {condition} with {argument}"
            self.page.wait_for_timeout(20)

    def ids(self, name: str) -> list[str]:
        """The items of a list, as they stand."""
        rows = self.page.locator(f".column.{name} li.row")
        return rows.evaluate_all("rows => rows.map(row => row.dataset.item)")

    def until_ids(self, name: str, ids: list[str]) -> None:
        """Wait until a list is these items."""
        self.until(
            "([name, ids]) => JSON.stringify([...document.querySelectorAll(`.column.${name} li.row`)]"
            ".map(row => row.dataset.item)) === JSON.stringify(ids)",
            [name, ids],
        )

    def row(self, name: str, place: int) -> Any:
        """A row of a list, from 0."""
        return self.page.locator(f".column.{name} li.row").nth(place)

    def numbers(self, name: str, place: int) -> list[float]:
        """Value, uncertainty, W, their product, and the probability, as a row shows them."""
        text = " ".join(self.row(name, place).locator(".number").all_inner_texts())
        value, spread, weight, product, share = map(float, re.findall(r"-?\d+\.?\d*", text.replace("−", "-")))
        return [value, spread, weight, product, share / 100]

    def moves(self, name: str) -> list[int | None]:
        """How far each row of a list says that it moved: up is positive, None is new."""
        told = self.page.locator(f".column.{name} li.row .move > [aria-hidden]").all_inner_texts()
        signs = {"▲": 1, "▼": -1}
        return [None if text == "new" else int(text[1:]) * signs[text[0]] if text else 0 for text in told]

    def hash(self) -> str:
        return self.page.evaluate("location.hash")

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")

    def ask(self, path: str, body: Any = None) -> Any:
        """Ask the service, not through the page."""
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{self.url}{path}", data, {"content-type": "application/json"}), timeout=20) as answer:
            return json.load(answer)

    def ranked(self, session: list[str], by: str, **options: Any) -> list[str]:
        """What the service itself recommends."""
        items = self.ask("/v1/recommend", {"session": session, "k": 10, "rank_by": by} | options)["items"]
        return [item["id"] for item in items]

    def close(self) -> None:
        self.context.close()

    def check(self) -> None:
        """No error in the console, no dialog, no request to anywhere else."""
        known = ("Failed to load resource",) if self.faulty else ()
        errors = [line for line in self.said if not line.startswith(("log:", "info:", "debug:"))]
        assert [line for line in errors if not any(each in line for each in known)] == []
        assert {urlsplit(url)[:2] for url in self.asked} <= {urlsplit(self.url)[:2]}
