"""The model before answers again, over HTTP: in one process and in several."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from in_process import put_in_place, serving, version_of
from serving_tools import Connection, Process, Reply, made_up_run
from valuerec.serving.keys import new_key
from valuerec.serving.versions import Versions


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
            client.service.ask_rollback = lambda leaving, to: None  # the parent is slow
            url = f"/v1/rollback?to={version_of(runs['vpq'])}"
            answer = await client.post(url, headers={"x-api-key": key})
            assert answer.status_code == 503 and answer.headers["retry-after"] == "1"

    asyncio.run(main())


def test_a_process_that_has_not_seen_the_new_model_yet_does_not_load_what_was_left(
    runs: dict[str, Path], live: Path
) -> None:
    told: list[str] = []
    versions = Versions(live, 1.0, lambda what, fields: told.append(what))
    old, new = version_of(runs["vpq"]), version_of(runs["supervised"])
    put_in_place(live, runs["supervised"])
    assert versions.rollback(new, old) and not versions.look() and versions.current.id == old and not told
    put_in_place(live, runs["vpq"])
    assert not versions.look()
    put_in_place(live, runs["supervised"])  # again, and this time it is meant
    assert versions.look() and versions.current.id == new and told == ["loaded"]


def test_every_process_rolls_back_and_says_so(tmp_path: Path) -> None:
    runs = [made_up_run(tmp_path / f"run{seed}", 60, heads=0, seed=seed) for seed in (0, 1)]
    old, new = map(version_of, runs)
    live, file = tmp_path / "live", tmp_path / "keys"
    live.symlink_to(runs[0])
    key = new_key(file, "operator")
    options = ("--processes", "2", "--drain-delay", "0", "--reload-every", "0.1", "--keys", str(file))

    async def main() -> None:
        process = Process(live, *options)

        async def post(path: str, key: str = key, body: bytes = b"{}") -> Reply:
            head = f"POST {path} HTTP/1.1\r\nhost: h\r\nx-api-key: {key}\r\ncontent-length: {len(body)}\r\n"
            head += "content-type: application/json\r\n"
            return await Connection(process.port).send(head.encode() + b"connection: close\r\n\r\n" + body)

        async def answering() -> set[str]:  # each connection goes to whichever process the kernel chooses
            replies = [await post("/v1/recommend", body=b'{"session": []}') for _ in range(24)]
            assert {reply.status for reply in replies} == {200}
            return {json.loads(reply.body)["model"]["version"] for reply in replies}

        async def until(wanted: str) -> None:
            async with asyncio.timeout(60):
                while await answering() != {wanted}:
                    await asyncio.sleep(0.05)

        def said(event: str) -> int:
            return sum(line.get("event") == event for line in process.log())

        try:
            await process.ready()
            async with asyncio.timeout(60):
                while said("ready") < 2:
                    await asyncio.sleep(0.05)
            assert (await post("/v1/rollback")).status == 409
            put_in_place(live, runs[1])
            await until(new)
            assert (await post("/v1/rollback", key="wrong")).status == 401 and await answering() == {new}
            reply = await post("/v1/rollback")
            assert reply.status == 200 and json.loads(reply.body)["version"] == old
            await until(old)
            await asyncio.sleep(0.3)  # the path holds the new one still, and both have looked at it
            assert await answering() == {old} and said("model rolled back") == 2
            put_in_place(live, runs[0])
            await asyncio.sleep(0.3)
            put_in_place(live, runs[1])
            await until(new)
        finally:
            assert process.end() == 0

    asyncio.run(main())
