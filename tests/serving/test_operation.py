"""What happens beside requests: models put in place, too many requests, late ones, keys, slow and large bodies."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import valuerec as vr
from in_process import Client, put_in_place, serving, version_of
from valuerec.errors import UsageError, ValuerecError
from valuerec.ranking import Engine
from valuerec.serving.keys import Keys, new_key
from valuerec.serving.settings import Settings
from valuerec.serving.versions import Rollback, Versions


def ask(path: Path, talk: Callable[[Client], Awaitable[Any]], **options: object) -> Any:
    async def main() -> Any:
        async with serving(path, **options) as client:
            return await talk(client)

    return asyncio.run(main())


@pytest.fixture
def live(runs: dict[str, Path], tmp_path: Path) -> Path:
    link = tmp_path / "live"
    link.symlink_to(runs["vpq"])
    return link


def lines(client: Client) -> list[dict[str, Any]]:
    return [json.loads(line) for line in client.log.getvalue().splitlines()]


def test_a_model_put_in_place_answers_and_a_rollback_brings_the_old_one_back(runs: dict[str, Path], live: Path) -> None:
    async def talk(client: Client) -> None:
        async def version() -> str:
            answer = (await client.post("/v1/recommend", json={"session": ["i001"]})).json()
            return str(answer["model"]["version"])

        versions, old = client.service.versions, await version()
        assert not versions.look() and versions.previous is None
        put_in_place(live, runs["supervised"])
        assert versions.look()
        new = await version()
        assert new != old and not versions.look()
        assert versions.rollback(versions.back_to(versions.previous)) and await version() == old  # type: ignore[arg-type]
        assert not versions.rollback(Rollback(new, "never heard of", str(live))) and await version() == old
        assert not versions.look()  # the path still holds the new one, which was rolled back
        put_in_place(live, runs["by-values"])
        assert versions.look() and await version() not in (old, new)
        assert [line["event"] for line in lines(client) if line["event"].startswith("model")] == [
            "model loaded",
            "model rolled back",
            "model loaded",
        ]

    ask(live, talk)


@pytest.mark.parametrize("damage", ["a byte of the weights", "no weights", "no manifest", "NaN", "another kind"])
def test_what_is_damaged_never_goes_live(runs: dict[str, Path], live: Path, tmp_path: Path, damage: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(runs["supervised"], broken)
    (weights,) = broken.glob("weights-*")
    manifest = broken / "manifest.json"
    if damage == "a byte of the weights":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "no weights":
        weights.unlink()
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "NaN":
        content = bytearray(weights.read_bytes())
        content[-4000:] = b"\xff" * 4000
        weights.write_bytes(content)
        told = json.loads(manifest.read_text())
        told["files"][weights.name]["sha256"] = hashlib.sha256(content).hexdigest()
        manifest.write_text(json.dumps(told))
    else:
        manifest.write_text('{"kind": "dataset", "schema_version": 1, "files": {}}')

    async def talk(client: Client) -> None:
        before = client.service.versions.current
        put_in_place(live, broken)
        assert not client.service.versions.look() and not client.service.versions.look()
        assert client.service.versions.current is before
        assert (await client.post("/v1/recommend", json={"session": []})).status_code == 200
        refused = [line for line in lines(client) if line["event"] == "model refused"]
        assert len(refused) == (0 if damage == "no manifest" else 1)  # without, it may be half put in place
        put_in_place(live, runs["supervised"])
        assert client.service.versions.look()

    ask(live, talk)


@pytest.mark.parametrize("kind", ["pipe", "too large"])
def test_a_manifest_that_is_not_read_is_refused_at_start_and_while_serving(
    runs: dict[str, Path], live: Path, tmp_path: Path, kind: str
) -> None:
    broken = Path(shutil.copytree(runs["supervised"], tmp_path / "broken"))
    if kind == "pipe":
        (broken / "manifest.json").unlink()
        os.mkfifo(broken / "manifest.json")
    else:
        os.truncate(broken / "manifest.json", 3 << 30)  # of holes: read whole, it would take as much memory
    with pytest.raises(ValuerecError, match=r"manifest\.json (is a folder, a device or a pipe|has more than)"):
        Versions(broken, 1.0, lambda *_: None)

    async def talk(client: Client) -> None:
        put_in_place(live, broken)
        assert not client.service.versions.look() and not client.service.versions.look()
        refused = [line for line in lines(client) if line["event"] == "model refused"]
        assert len(refused) == 1 and "manifest.json" in refused[0]["why"]
        put_in_place(live, runs["supervised"])
        assert client.service.versions.look()
        put_in_place(live, broken)
        assert not client.service.versions.look()
        assert sum(line["event"] == "model refused" for line in lines(client)) == 2

    ask(live, talk)


def test_every_answer_is_of_one_version_while_models_change(runs: dict[str, Path], live: Path) -> None:
    models = [vr.load(runs[name]) for name in ("vpq", "supervised")]
    expected = [[item.id for item in model.recommend([["i001"]], k=10)[0]] for model in models]
    assert expected[0] != expected[1]

    async def talk(client: Client) -> None:
        by_version: dict[str, int] = {client.service.versions.current.id: 0}
        wrong = []

        async def load() -> None:
            body = {"requests": [{"session": ["i001"], "k": 10}] * 3}
            for _ in range(60):
                answers = (await client.post("/v1/recommend/batch", json=body)).json()["answers"]
                for answer in answers:
                    items = [item["id"] for item in answer["items"]]
                    wrong.append(items != expected[by_version[answer["model"]["version"]]])
                await asyncio.sleep(0)

        async def change() -> None:
            for turn in range(8):
                put_in_place(live, runs[("supervised", "vpq")[turn % 2]])
                by_version[version_of(live)] = (turn + 1) % 2
                assert await asyncio.to_thread(client.service.versions.look)

        await asyncio.gather(load(), load(), change())
        assert len(wrong) == 2 * 60 * 3 and not any(wrong)

    ask(live, talk)


def test_a_full_queue_and_a_passed_deadline_are_refused_with_retry_after(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rank = Engine.rank
    monkeypatch.setattr(Engine, "rank", lambda self, *asked: (time.sleep(0.2), rank(self, *asked))[1])

    async def talk(client: Client) -> list[httpx.Response]:
        asked = [client.post("/v1/recommend", json={"session": []}) for _ in range(12)]
        late = client.post("/v1/recommend", json={"session": []}, headers={"x-request-timeout-ms": "1"})
        return list(await asyncio.gather(late, *asked))

    late, *answers = ask(runs["supervised"], talk, queue=3, batch_rows=1, deadline=30.0)
    assert late.status_code == 503 and late.json()["error"]["code"] == "deadline"
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429} and 2 <= statuses.count(200) <= 5
    assert all(answer.headers["retry-after"] == "1" for answer in [late, *answers] if answer.status_code != 200)


def test_no_more_is_let_in_than_can_be_answered_in_time(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    rank = Engine.rank
    monkeypatch.setattr(Engine, "rank", lambda self, *asked: (time.sleep(0.1), rank(self, *asked))[1])

    async def talk(client: Client) -> list[int]:
        async def ask() -> int:
            return (await client.post("/v1/recommend", json={"session": []})).status_code

        for _ in range(8):
            assert await ask() == 200  # one after the other: its speed becomes known
        return list(await asyncio.gather(*(ask() for _ in range(60))))

    statuses = ask(runs["supervised"], talk, queue=1000, batch_rows=1, deadline=2.0)  # 60 would take six seconds
    assert set(statuses) == {200, 429} and 5 <= statuses.count(200) <= 15


def test_a_fault_of_ours_is_an_answer_and_not_the_end(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(client: Client) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Engine, "rank", lambda self, *asked: 1 / 0)
            broken = await client.post("/v1/recommend", json={"session": ["secret-item"]})
        assert broken.status_code == 500 and broken.json()["error"]["code"] == "internal"
        assert (await client.post("/v1/recommend", json={"session": []})).status_code == 200
        (fault,) = [line for line in lines(client) if line["event"] == "fault"]
        assert "ZeroDivisionError" in fault["error"] and "secret-item" not in client.log.getvalue()

    ask(runs["supervised"], talk)


def test_readiness_fails_first_and_requests_are_still_answered(runs: dict[str, Path]) -> None:
    async def talk(client: Client) -> None:
        client.service.draining = True
        assert (await client.get("/v2/health/ready")).status_code == 503
        assert (await client.get("/v2/health/live")).status_code == 200
        answer = await client.post("/v1/recommend", json={"session": []})
        assert answer.status_code == 200 and answer.headers["connection"] == "close"

    ask(runs["supervised"], talk)


def test_too_large_a_body_is_refused_whether_it_says_its_length_or_not(runs: dict[str, Path]) -> None:
    async def talk(client: Client) -> list[httpx.Response]:
        async def parts() -> Any:
            for _ in range(100):
                yield b" " * 100

        kind = {"content-type": "application/json"}
        return [
            await client.post("/v1/recommend", content=b" " * 5001, headers=kind),
            await client.post("/v1/recommend", content=parts(), headers=kind),
            await client.post("/v1/recommend", content=b'{"session": []}'.ljust(5000), headers=kind),
        ]

    assert [answer.status_code for answer in ask(runs["supervised"], talk, max_body=5000)] == [413, 413, 200]


def test_a_body_that_does_not_arrive_is_refused(runs: dict[str, Path]) -> None:
    async def drip(client: Client) -> int:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(60)
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/recommend", "headers": [], "query_string": b""}
        await client.app(scope, receive, send)
        return int(sent[0]["status"])

    assert ask(runs["supervised"], drip, client_timeout=0.05) == 408


def test_keys_are_needed_hashed_never_logged_and_read_again(runs: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key = new_key(file, "shop")
    assert key not in file.read_text() and file.stat().st_mode & 0o077 == 0

    async def talk(client: Client) -> None:
        async def status(url: str = "/v1/model", **headers: str) -> int:
            return (await client.get(url, headers=headers)).status_code

        assert await status() == 401 == await status(authorization="Bearer wrong")
        assert await status(authorization=f"Bearer {key}") == 200
        assert await status(**{"x-api-key": key}) == 200
        assert await status(authorization=f"bearer  {key}") == 200  # the scheme's case says nothing
        assert await status(authorization=key) == 401 == await status(authorization=f"Basic {key}")
        assert await status(**{"x-api-key": "wrong"}, authorization=f"Bearer {key}") == 200
        assert await status(**{"x-api-key": key}, authorization="Bearer wrong") == 200
        assert await status("/v2/health/ready") == 200 == await status("/openapi.json")
        assert await status("/v2/models/supervised") == 401
        other = new_key(file, "other")
        client.service.keys.look()  # type: ignore[union-attr]
        assert await status(**{"x-api-key": other}) == 200
        log = client.log.getvalue()
        assert key not in log and other not in log and "wrong" not in log
        assert {line.get("key") for line in lines(client)} >= {"shop", "other", None}

    ask(runs["supervised"], talk, keys=file)


def test_a_line_that_is_no_key_is_named_but_not_told(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\n\nshop vr_a-key-in-clear-text\n")
    with pytest.raises(ValuerecError, match="line 3 is no key") as raised:
        Keys(file)
    assert "clear-text" not in str(raised.value)
    with pytest.raises(UsageError, match="no name"):
        new_key(tmp_path / "new", "a b")


def test_head_is_answered_wherever_get_is(runs: dict[str, Path]) -> None:
    async def talk(client: Client) -> None:
        for path in ("/", "/page/app.js", "/metrics", "/openapi.json", "/v1/model", "/v2/health/ready", "/nothing"):
            got, head = await client.get(path), await client.head(path)
            assert head.status_code == got.status_code == (404 if path == "/nothing" else 200)
            assert head.headers["content-type"] == got.headers["content-type"]
            assert int(head.headers["content-length"]) > 0 and not head.content
        assert (await client.head("/v1/recommend")).status_code == 405
        told = {(line["method"], line["route"]) for line in lines(client) if line["event"] == "request"}
        assert {("HEAD", "/v1/model"), ("GET", "/v1/model")} <= told

    ask(runs["supervised"], talk)


def test_a_batch_of_more_than_a_second_s_worth_is_let_through_and_paid_for(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    key = {"x-api-key": new_key(tmp_path / "keys", "a")}

    async def talk(client: Client) -> None:
        def post(count: int) -> Awaitable[httpx.Response]:
            return client.post("/v1/recommend/batch", json={"requests": [{"session": []}] * count}, headers=key)

        assert (await post(10)).status_code == 200
        refused = await post(1)
        assert (
            refused.status_code == 429 and refused.headers["retry-after"] == "5"
        )  # 8 too many and one more, two a second
        assert f"in {refused.headers['retry-after']} seconds." in refused.json()["error"]["message"]

    ask(runs["supervised"], talk, keys=tmp_path / "keys", rate=2.0)


def test_a_key_asks_no_more_than_its_rate(runs: dict[str, Path], tmp_path: Path) -> None:
    keys = {name: new_key(tmp_path / "keys", name) for name in ("a", "b")}

    async def talk(client: Client) -> None:
        async def ask_for(name: str, count: int) -> httpx.Response:
            body = {"requests": [{"session": []}] * count}
            return await client.post("/v1/recommend/batch", json=body, headers={"x-api-key": keys[name]})

        assert (await ask_for("a", 4)).status_code == 200
        refused = await ask_for("a", 4)
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"] == {
            "code": "rate",
            "message": "This key has asked too often; try again in a second.",
        }
        assert (await ask_for("b", 4)).status_code == 200

    ask(runs["supervised"], talk, keys=tmp_path / "keys", rate=4.0)


def test_the_request_id_is_the_clients_where_it_is_one(runs: dict[str, Path]) -> None:
    async def talk(client: Client) -> None:
        body = {"session": []}
        mine = await client.post("/v1/recommend", json=body, headers={"x-request-id": "abc-1"})
        assert mine.headers["x-request-id"] == "abc-1" == mine.json()["request_id"]
        other = await client.post("/v1/recommend", json=body, headers={"x-request-id": "a b\u00e9".encode()})  # type: ignore[dict-item]
        assert len(other.headers["x-request-id"]) == 32
        (line,) = [line for line in lines(client) if line.get("request_id") == "abc-1"]
        assert (line["route"], line["status"]) == ("/v1/recommend", 200) and line["version"]

    ask(runs["supervised"], talk)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"queue": 0}, "queue is 0"),
        ({"deadline": 0.0}, "deadline is 0.0"),
        ({"batch_window": float("nan")}, "batch_window is nan"),
        ({"rate": 5.0}, "there are no keys"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Settings(**options)
