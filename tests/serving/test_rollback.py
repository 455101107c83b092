"""The model before answers again, over HTTP: in one process and in several."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from in_process import put_in_place, serving, version_of
from serving_tools import Connection, Process, Reply, made_up_run
from valuerec.serving.keys import new_key
from valuerec.serving.versions import Rollback, State, Versions


@pytest.fixture
def live(runs: dict[str, Path], tmp_path: Path) -> Path:
    link = tmp_path / "live"
    link.symlink_to(runs["vpq"])
    return link


def test_back_and_forth_and_what_is_refused(runs: dict[str, Path], live: Path, tmp_path: Path) -> None:
    key = new_key(tmp_path / "keys", "operator")
    old, new = version_of(runs["vpq"]), version_of(runs["supervised"])

    async def main() -> None:
        async with serving(live, keys=tmp_path / "keys") as client:

            async def ask(to: str | None = None, **headers: str) -> httpx.Response:
                given = headers or {"authorization": f"Bearer {key}"}
                return await client.post("/v1/rollback", params={"to": to} if to else {}, headers=given)

            async def answers() -> str:
                answer = await client.post("/v1/recommend", json={"session": []}, headers={"x-api-key": key})
                return str(answer.json()["model"]["version"])

            def code(answer: httpx.Response) -> tuple[int, str]:
                return answer.status_code, answer.json()["error"]["code"]

            assert code(await ask()) == (409, "no_previous")
            put_in_place(live, runs["supervised"])
            assert client.service.versions.look() and await answers() == new
            assert code(await ask(authorization="Bearer wrong")) == (401, "no_key")
            assert code(await ask(to="another")) == (409, "no_previous")
            assert await answers() == new
            told = await ask()
            assert told.status_code == 200 and await answers() == old
            assert (told.json()["version"], told.json()["previous_version"]) == (old, new)
            assert not client.service.versions.look() and await answers() == old
            assert (await ask(to=old)).status_code == 200 and await answers() == old  # asked twice
            assert (await ask()).json()["version"] == new == await answers()  # and back again

    asyncio.run(main())


def test_without_keys_nobody_may(runs: dict[str, Path]) -> None:
    async def main() -> None:
        async with serving(runs["vpq"]) as client:
            answer = await client.post("/v1/rollback")
            assert answer.status_code == 403 and answer.json()["error"]["code"] == "no_keys"

    asyncio.run(main())


def test_a_rollback_that_takes_too_long_is_told_and_its_repetition_does_no_harm(
    runs: dict[str, Path], live: Path, tmp_path: Path
) -> None:
    key = new_key(tmp_path / "keys", "operator")

    async def main() -> None:
        async with serving(live, keys=tmp_path / "keys", deadline=0.1) as client:
            put_in_place(live, runs["supervised"])
            assert client.service.versions.look()
            ask = client.service.ask_rollback
            client.service.ask_rollback = lambda wanted, deadline: ask(wanted, deadline) and False  # another is slow
            url = f"/v1/rollback?to={version_of(runs['vpq'])}"
            for _ in range(2):  # the second time this process is there itself
                answer = await client.post(url, headers={"x-api-key": key})
                assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
                assert answer.json()["error"]["code"] == "not_everywhere"
            client.service.ask_rollback = ask
            assert (await client.post(url, headers={"x-api-key": key})).json()["version"] == version_of(runs["vpq"])

    asyncio.run(main())


def test_a_process_that_has_not_seen_the_new_model_yet_does_not_load_what_was_left(
    runs: dict[str, Path], live: Path
) -> None:
    told: list[str] = []
    versions = Versions(live, 1.0, lambda what, fields: told.append(what))
    old, new = version_of(runs["vpq"]), version_of(runs["supervised"])
    put_in_place(live, runs["supervised"])
    wanted = versions.back_to(versions.current)  # as another one that has not seen it would be asked
    assert wanted == Rollback(new, old, str(runs["vpq"].resolve()))
    assert versions.rollback(wanted) and not versions.look() and versions.current.id == old and not told
    put_in_place(live, runs["vpq"])
    assert not versions.look()
    put_in_place(live, runs["supervised"])  # again, and this time it is meant
    assert versions.look() and versions.current.id == new and told == ["loaded"]


def test_a_process_that_started_later_goes_back_to_what_is_still_on_the_disk(
    runs: dict[str, Path], live: Path, tmp_path: Path
) -> None:
    old, new = version_of(runs["vpq"]), version_of(runs["supervised"])
    put_in_place(live, runs["supervised"])
    versions = Versions(live, 1.0, lambda what, fields: None)
    for folder in (tmp_path / "nothing", runs["by-values"]):  # gone, or another one now
        assert not versions.rollback(Rollback(new, old, str(folder)))
        assert versions.state == State(new, str(runs["supervised"].resolve()), None)
    assert versions.rollback(Rollback(new, old, str(runs["vpq"])))
    assert versions.state == State(old, str(runs["vpq"]), new) and not versions.look()
    assert versions.previous is not None and versions.previous.id == new


class Shop:
    """Two processes and two models, the second of which is left for the first."""

    def __init__(self, folder: Path) -> None:
        self.runs = [made_up_run(folder / f"run{seed}", 60, heads=0, seed=seed) for seed in (0, 1)]
        self.old, self.new = map(version_of, self.runs)
        self.live, file = folder / "live", folder / "keys"
        self.live.symlink_to(self.runs[0])
        self.key = new_key(file, "operator")
        options = ("--processes", "2", "--drain-delay", "0", "--reload-every", "0.1", "--keys", str(file))
        self.process = Process(self.live, *options)

    async def post(self, path: str, key: str | None = None, body: bytes = b"{}") -> Reply:
        head = f"POST {path} HTTP/1.1\r\nhost: h\r\nx-api-key: {key or self.key}\r\ncontent-length: {len(body)}\r\n"
        head += "content-type: application/json\r\n"
        return await Connection(self.process.port).send(head.encode() + b"connection: close\r\n\r\n" + body)

    async def answering(self) -> set[str]:
        """Each connection goes to whichever process the kernel chooses."""
        replies = [await self.post("/v1/recommend", body=b'{"session": []}') for _ in range(24)]
        assert {reply.status for reply in replies} == {200}
        return {json.loads(reply.body)["model"]["version"] for reply in replies}

    async def until(self, wanted: str) -> None:
        async with asyncio.timeout(60):
            while await self.answering() != {wanted}:
                await asyncio.sleep(0.05)

    async def until_said(self, event: str, times: int) -> None:
        async with asyncio.timeout(60):
            while self.said(event) < times:
                await asyncio.sleep(0.05)

    def said(self, event: str) -> int:
        return sum(line.get("event") == event for line in self.process.log())

    async def rolled_back(self) -> None:
        """From the start to where both answer by the old model, and the path holds the new one."""
        await self.process.ready()
        await self.until_said("ready", 2)
        assert (await self.post("/v1/rollback")).status == 409
        put_in_place(self.live, self.runs[1])
        await self.until(self.new)
        reply = await self.post("/v1/rollback")
        assert reply.status == 200 and json.loads(reply.body)["version"] == self.old
        assert self.said("model rolled back") == 2 and await self.answering() == {self.old}  # at once, and in both

    def children(self) -> list[int]:
        pid = self.process.process.pid
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return [child for child in children if b"serving.child" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_every_process_rolls_back_and_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        shop = Shop(tmp_path)
        try:
            await shop.rolled_back()
            assert (await shop.post("/v1/rollback", key="wrong")).status == 401
            await asyncio.sleep(0.3)  # the path holds the new one still, and both have looked at it
            assert await shop.answering() == {shop.old} and shop.said("model rolled back") == 2
            put_in_place(shop.live, shop.runs[0])
            await asyncio.sleep(0.3)
            put_in_place(shop.live, shop.runs[1])
            await shop.until(shop.new)
        finally:
            assert shop.process.end() == 0

    asyncio.run(main())


def test_a_process_that_is_started_again_goes_back_too_before_it_answers(tmp_path: Path) -> None:
    async def main() -> None:
        shop = Shop(tmp_path)
        try:
            await shop.rolled_back()
            os.kill(shop.children()[0], signal.SIGKILL)
            while shop.said("ready") < 3:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # sent to the one that died
                    assert await shop.answering() == {shop.old}
            assert await shop.answering() == {shop.old} and shop.said("model rolled back") == 3
            url = f"/v1/rollback?to={shop.old}"
            assert (await shop.post(url)).status == 200
            # what is gone can't be gone back to: the other one goes on alone, until a model is put in place
            shop.runs[0].rename(tmp_path / "elsewhere")
            os.kill(shop.children()[0], signal.SIGKILL)
            await shop.until_said("failed", 1)
            assert await shop.answering() == {shop.old} and (await shop.post(url)).status == 200
            put_in_place(shop.live, tmp_path / "elsewhere")
            await shop.until_said("ready", 4)
            assert await shop.answering() == {shop.old}
        finally:
            assert shop.process.end() == 0

    asyncio.run(main())


def test_it_is_only_said_when_every_process_is_there(tmp_path: Path) -> None:
    async def main() -> None:
        shop = Shop(tmp_path)
        try:
            await shop.rolled_back()
            url = f"/v1/rollback?to={shop.new}"
            stopped = shop.children()[0]
            os.kill(stopped, signal.SIGSTOP)
            statuses = []
            while len(statuses) < 2:
                with contextlib.suppress(TimeoutError):  # sent to the one that is stopped
                    async with asyncio.timeout(3):
                        statuses.append((await shop.post(url)).status)
            os.kill(stopped, signal.SIGCONT)
            assert statuses == [503, 503]
            async with asyncio.timeout(30):
                while (await shop.post(url)).status != 200:
                    await asyncio.sleep(0.05)
            assert await shop.answering() == {shop.new}
        finally:
            assert shop.process.end() == 0

    asyncio.run(main())
