from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import valuerec as vr
from in_process import Client, serving
from serving_tools import made_up_run


def ask(path: Path, talk: Callable[[Client], Awaitable[Any]], **options: object) -> Any:
    """What a conversation with a service comes to."""

    async def main() -> Any:
        async with serving(path, **options) as client:
            return await talk(client)

    return asyncio.run(main())


def post(path: Path, url: str, body: Any, **options: object) -> httpx.Response:
    answer: httpx.Response = ask(path, lambda client: client.post(url, json=body), **options)
    return answer


def get(path: Path, url: str, **options: object) -> httpx.Response:
    answer: httpx.Response = ask(path, lambda client: client.get(url), **options)
    return answer


def sentence(answer: httpx.Response) -> str:
    """The one sentence of an error."""
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"} and set(error) == {"code", "message"}
    assert error["message"].endswith(".") and "\n" not in error["message"]
    return str(error["message"])


@pytest.mark.parametrize("name", ["supervised", "vpq", "by-values"])
def test_http_python_and_file_recommend_the_same(runs: dict[str, Path], name: str, tmp_path: Path) -> None:
    sessions = [["i003", "i004"], [], ["i029"] * 20, ["no such", "i001"]]
    model = vr.load(runs[name])
    by_python = model.recommend(sessions, k=7)
    file, out = tmp_path / "s.jsonl", tmp_path / "out.jsonl"
    file.write_text("".join(json.dumps(session) + "\n" for session in sessions))
    vr.recommend(runs[name], file, out=out, k=7)
    by_file = [json.loads(line)["items"] for line in out.read_text().splitlines()]
    requests = [{"session": session, "k": 7} for session in sessions]
    answers = post(runs[name], "/v1/recommend/batch", {"requests": requests}, max_disagreement=1e9).json()["answers"]
    for python, told, answer in zip(by_python, by_file, answers, strict=True):
        assert [item["id"] for item in answer["items"]] == [item.id for item in python] == [item["id"] for item in told]
        assert [item["score"] for item in answer["items"]] == pytest.approx([item.score for item in python])
    assert answers[3]["unknown_items"] == ["no such"]


def test_an_answer_is_as_the_contract_says(runs: dict[str, Path]) -> None:
    body = {
        "session": ["i003", {"item": "i004", "event": "wish"}],
        "k": 5,
        "exclude_seen": True,
        "filter": {"block": ["i005"]},
        "rank_by": "blend",
        "blend": 0.25,
        "penalty": 2,
    }
    answer = post(runs["vpq"], "/v1/recommend", body, name="shop").json()
    assert set(answer) == {"items", "rank_by", "fallback", "unknown_items", "model", "request_id"}
    assert answer["model"]["name"] == "shop" and len(answer["items"]) == 5
    assert not {"i003", "i004", "i005"} & {item["id"] for item in answer["items"]}
    for item in answer["items"]:
        assert set(item) == {"id", "name", "score", "relevance", "value", "uncertainty", "weight"}
        assert item["name"] is None
        assert item["weight"] == pytest.approx(1 / (1 + 2 * item["uncertainty"]))


def test_score_orders_what_it_is_given_and_names_the_unknown(runs: dict[str, Path]) -> None:
    items = ["i009", "i001", "nobody", "i020"]
    answer = post(runs["vpq"], "/v1/score", {"session": ["i003"], "items": items, "rank_by": "relevance"}).json()
    scores = [item["relevance"] for item in answer["items"]]
    assert {item["id"] for item in answer["items"]} == {"i009", "i001", "i020"}
    assert scores == sorted(scores, reverse=True) and answer["unknown_items"] == ["nobody"]


def test_ids_of_the_filter_that_the_model_does_not_know_are_told(runs: dict[str, Path]) -> None:
    asked = {"session": ["i003", "x"], "filter": {"block": ["i005", "y", "x"]}}
    assert post(runs["vpq"], "/v1/recommend", asked).json()["unknown_items"] == ["x", "y"]
    asked = {"session": [], "filter": {"allow": ["z", "i005", "z"]}}
    answer = post(runs["vpq"], "/v1/recommend", asked).json()
    assert answer["unknown_items"] == ["z"] and [item["id"] for item in answer["items"]] == ["i005"]


def test_the_catalogue_is_searched_by_id_and_name(runs: dict[str, Path], tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    names.write_text("id,name\ni007,Blue Kettle\ni012,Red kettle\n")
    found = get(runs["vpq"], "/v1/items?query=KETTLE", catalogue=names).json()["items"]
    assert found == [{"id": "i007", "name": "Blue Kettle"}, {"id": "i012", "name": "Red kettle"}]
    assert [item["id"] for item in get(runs["vpq"], "/v1/items?query=i01&limit=3").json()["items"]] == [
        "i010",
        "i011",
        "i012",
    ]
    assert len(get(runs["vpq"], "/v1/items").json()["items"]) == 20


def test_whatever_names_an_item_has_its_name_of_the_catalogue(runs: dict[str, Path], tmp_path: Path) -> None:
    names, past = tmp_path / "names.csv", tmp_path / "past.jsonl"
    names.write_text('id,name\ni007,"Kettle, blue"\n')
    past.write_text('{"session": "a", "events": [{"item": "i007", "event": "click"}, {"item": "x", "event": "click"}]}')

    async def talk(client: Client) -> list[Any]:
        wish = {"session": ["i007"], "k": 30}
        one = (await client.post("/v1/recommend", json=wish)).json()
        batch = (await client.post("/v1/recommend/batch", json={"requests": [wish, wish]})).json()["answers"]
        listed = (await client.post("/v1/score", json={"session": [], "items": ["i007", "i008"]})).json()
        session = (await client.get("/v1/sessions")).json()["sessions"][0]
        return [item for answer in (one, *batch, listed) for item in answer["items"]] + [
            {"id": event["item"], "name": event["name"]} for event in session["events"]
        ]

    told = ask(runs["vpq"], talk, catalogue=names, sessions=past)
    assert len(told) == 3 * 30 + 2 + 2
    assert all(item["name"] == ("Kettle, blue" if item["id"] == "i007" else None) for item in told)


def test_an_id_may_be_as_long_as_the_body_allows(tmp_path: Path) -> None:
    ids = ["a", "b" * 600, "c" * 100_000]
    path = made_up_run(tmp_path / "run", 3, width=8, heads=3, ids=ids)

    async def talk(client: Client) -> None:
        answer = (await client.post("/v1/recommend", json={"session": ids[1:] * 2, "k": 3})).json()
        assert {item["id"] for item in answer["items"]} == set(ids) and answer["unknown_items"] == []
        answer = (await client.post("/v1/score", json={"session": [ids[2]], "items": [ids[1]]})).json()
        assert [item["id"] for item in answer["items"]] == [ids[1]]
        asked = {"session": ids[1:], "k": 3, "filter": {"block": [ids[1]]}}
        answer = (await client.post("/v1/recommend", json=asked)).json()
        assert {item["id"] for item in answer["items"]} == {ids[0], ids[2]}
        tensor = {"name": "session", "shape": [1, 2], "datatype": "BYTES", "data": ids[1:]}
        url = f"/v2/models/{client.service.name}/infer"
        outputs = (await client.post(url, json={"inputs": [tensor]})).json()["outputs"]
        assert set(outputs[0]["data"]) == set(ids)
        found = (await client.get("/v1/items?query=bbb")).json()["items"]
        assert [item["id"] for item in found] == [ids[1]]
        too_long = await client.post("/v1/recommend", json={"session": ["d" * (1 << 20)]})
        assert too_long.status_code == 413

    ask(path, talk)


def test_recorded_sessions_are_told(runs: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text('{"session": "b", "events": [{"item": "i001", "event": "add_to_cart"}]}\n')
    assert get(runs["vpq"], "/v1/sessions", sessions=file).json()["sessions"][0]["events"][0]["event"] == "add_to_cart"
    file.write_text('{"session": "a", "events": [{"item": "i001", "event": "purchase"}]}\n')
    told = get(runs["vpq"], "/v1/sessions", sessions=file).json()
    assert told == {"sessions": [{"id": "a", "events": [{"item": "i001", "event": "purchase", "name": None}]}]}
    file.write_text('["i001", "i002"]\n["i003"]\n')
    told = get(runs["vpq"], "/v1/sessions?limit=1", sessions=file).json()["sessions"]
    assert [event["item"] for event in told[0]["events"]] == ["i001", "i002"] and len(told) == 1
    assert get(runs["vpq"], "/v1/sessions").json() == {"sessions": []}


def test_the_model_is_described(runs: dict[str, Path]) -> None:
    told = get(runs["vpq"], "/v1/model").json()
    assert (told["backbone"], told["method"], told["items"], told["has_values"]) == ("sasrec", "vpq", 30, True)
    assert told["rewards"] == {"click": 0.2, "purchase": 1.0} and told["bounds"] == [0.0, 2.0]
    assert told["penalty"] == 20.0 and "test" in told["metrics"] and told["previous_version"] is None
    assert get(runs["supervised"], "/v1/model").json()["has_values"] is False


def test_a_model_without_critic_refuses_values_and_answers_the_rest_of_the_batch(runs: dict[str, Path]) -> None:
    async def talk(client: Client) -> tuple[httpx.Response, ...]:
        asked = ({"session": [], "rank_by": "value"}, {"session": []})
        return tuple(await asyncio.gather(*(client.post("/v1/recommend", json=body) for body in asked)))

    refused, answered = ask(runs["supervised"], talk, batch_window=0.1)
    assert refused.status_code == 422 and "no critic" in sentence(refused)
    assert answered.status_code == 200 and answered.json()["items"][0]["value"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "session"),
        ({"session": "i001"}, "session"),
        ({"session": [3]}, "session.0 is wrong: it should be an id, or an object with an item and an event"),
        ({"session": [""]}, "session.0 is wrong: string should have at least 1 character"),
        ({"session": [{"event": "click"}]}, "session.0.item is wrong: field required"),
        ({"session": [], "k": 0}, "k"),
        ({"session": [], "k": 10**400}, "k"),
        ({"session": [], "K": 3}, "K"),
        ({"session": [], "rank_by": "price"}, "rank_by"),
        ({"session": [], "penalty": -1}, "penalty"),
        (
            {"session": [{"item": "a", "event": "View it"}]},
            "session.0.event is wrong: string should match pattern",
        ),
        ({"session": [], "filter": {"allow": [], "block": []}}, "filter"),
        ([], ""),
    ],
)
def test_a_wrong_request_is_told_the_field_in_one_sentence(runs: dict[str, Path], body: Any, field: str) -> None:
    async def talk(client: Client) -> httpx.Response:
        return await client.post(
            "/v1/recommend", content=json.dumps(body), headers={"content-type": "application/json"}
        )

    answer = ask(runs["supervised"], talk)
    assert answer.status_code in (400, 422)
    assert sentence(answer).startswith(f"The field {field}" if field else "The body is wrong: ")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("query=" + "a" * 201, "The field query is wrong: string should have at most 200 characters"),
        ("limit=x", "The field limit is wrong: input should be a valid integer"),
    ],
)
def test_a_wrong_query_is_told_by_its_name(runs: dict[str, Path], query: str, says: str) -> None:
    answer = get(runs["supervised"], f"/v1/items?{query}")
    assert answer.status_code == 422 and says in sentence(answer)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_an_encoded_body_is_refused_for_its_encoding(runs: dict[str, Path], encoding: str) -> None:
    async def talk(client: Client) -> tuple[httpx.Response, httpx.Response]:
        headers = {"content-type": "application/json", "content-encoding": encoding}
        content = gzip.compress(b'{"session": []}')
        plain = await client.post("/v1/recommend", json={"session": []}, headers={"content-encoding": "identity"})
        return await client.post("/v1/recommend", content=content, headers=headers), plain

    refused, plain = ask(runs["supervised"], talk)
    assert refused.status_code == 415 and refused.json()["error"]["code"] == "encoded"
    assert "Content-Encoding" in sentence(refused) and plain.status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"session": ["\\ud800"]}',
        b'{"session": [], "blend": NaN}',
        b"null",
        b"1e999",
    ],
)
def test_what_is_no_json_or_no_text_is_refused(runs: dict[str, Path], content: bytes) -> None:
    async def talk(client: Client) -> httpx.Response:
        return await client.post("/v1/recommend", content=content, headers={"content-type": "application/json"})

    answer = ask(runs["supervised"], talk)
    assert answer.status_code in (400, 422), answer.text
    sentence(answer)


def test_paths_methods_and_types_that_do_not_exist(runs: dict[str, Path]) -> None:
    async def talk(client: Client) -> list[httpx.Response]:
        text = {"content-type": "text/plain"}
        return [
            await client.get("/v1/nothing"),
            await client.get("/v1/recommend"),
            await client.post("/v1/recommend", content=b"{}", headers=text),
            await client.post("/v1/recommend", content=b"{}"),
            await client.get("/v1/items?limit=0"),
            await client.get("/v2/models/other"),
            await client.get("/page/..%2f..%2fapp.py"),
            await client.get("/docs"),
        ]

    answers = ask(runs["supervised"], talk)
    assert [answer.status_code for answer in answers] == [404, 405, 415, 415, 422, 404, 404, 404]
    assert answers[1].headers["allow"] == "POST"
    for answer in answers:
        sentence(answer)


def test_the_open_inference_protocol(runs: dict[str, Path]) -> None:
    async def talk(client: Client) -> list[httpx.Response]:
        body = {
            "id": "42",
            "inputs": [{"name": "session", "shape": [2, 2], "datatype": "BYTES", "data": ["i003", "i004", "i005", ""]}],
            "parameters": {"k": 3, "exclude_seen": True},
        }
        nested = body | {"inputs": [body["inputs"][0] | {"data": [["i003", "i004"], ["i005", ""]]}]}  # type: ignore[index]
        wrong = body | {"inputs": [body["inputs"][0] | {"shape": [3, 2]}]}  # type: ignore[index]
        url = "/v2/models/vpq/infer"
        return [
            await client.get("/v2/health/live"),
            await client.get("/v2/health/ready"),
            await client.get("/v2"),
            await client.get("/v2/models/vpq"),
            await client.get("/v2/models/vpq/ready"),
            await client.post(url, json=body),
            await client.post(url, json=nested),
            await client.post(url, json=wrong),
        ]

    *well, wrong = ask(runs["vpq"], talk)
    assert [answer.status_code for answer in well] == [200] * 7 and wrong.status_code == 422
    assert "shape [3, 2]" in sentence(wrong)
    answer = well[5].json()
    assert answer["id"] == "42" and answer["outputs"] == well[6].json()["outputs"]
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert {output["name"] for output in well[3].json()["outputs"]} == set(outputs)
    expected = vr.load(runs["vpq"]).recommend([["i003", "i004"], ["i005"]], k=3, exclude_seen=True)
    assert outputs["items"]["shape"] == [2, 3]
    assert outputs["items"]["data"] == [item.id for row in expected for item in row]


def test_infer_tells_what_every_answer_tells_and_takes_a_filter(runs: dict[str, Path]) -> None:
    def tensor(name: str, *rows: list[str]) -> dict[str, Any]:
        return {"name": name, "datatype": "BYTES", "shape": [len(rows), len(rows[0])], "data": [*rows]}

    session = tensor("session", ["i003", "x", "y"], ["i004", "x", ""])
    bodies: list[Any] = [
        {"inputs": [session], "parameters": {"k": 3, "rank_by": "value"}},
        {"inputs": [session, tensor("allow", ["i007", "i009"])], "parameters": {"k": 3}},
        {"inputs": [tensor("block", ["i007", "z"], ["", ""]), session], "parameters": {"k": 30}},
    ]

    async def talk(client: Client) -> tuple[list[dict[str, Any]], str]:
        answers = [(await client.post("/v2/models/vpq/infer", json=body)).json() for body in bodies]
        told = [{output["name"]: output for output in answer["outputs"]} for answer in answers]
        return told, (await client.get("/metrics")).text

    (fell_back, allowed, blocked), metrics = ask(runs["vpq"], talk, max_disagreement=0.0)
    assert fell_back["rank_by"] == {"name": "rank_by", "shape": [2], "datatype": "BYTES", "data": ["relevance"] * 2}
    assert all("standard deviation" in why for why in fell_back["fallback"]["data"])
    assert fell_back["unknown_items"]["shape"] == [2, 2] and fell_back["unknown_items"]["data"] == ["x", "y", "x", ""]
    assert "valuerec_fallbacks_total 2.0" in metrics
    assert allowed["items"]["shape"] == [2, 2] and set(allowed["items"]["data"]) == {"i007", "i009"}
    assert allowed["fallback"]["data"] == ["", ""]
    assert blocked["items"]["shape"] == [2, 30]
    assert blocked["items"]["data"].count("i007") == 1 and blocked["items"]["data"][29] == ""
    assert blocked["unknown_items"]["data"] == ["x", "y", "z", "x", "", ""]


_SESSION = {"name": "session", "datatype": "BYTES", "shape": [1], "data": ["i003"]}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"inputs": [_SESSION], "parameters": {"rank-by": "value"}}, "The field parameters.rank-by is wrong"),
        ({"inputs": [_SESSION | {"data": [3]}]}, "inputs.0.data.0 is wrong: it should be an id, or a row of ids"),
        ({"inputs": [_SESSION, _SESSION]}, "give one named session"),
        ({"inputs": [_SESSION | {"name": "block"}]}, "give one named session"),
        (
            {"inputs": [_SESSION, _SESSION | {"name": "block", "shape": [2, 1], "data": ["a", "b"]}]},
            "The input block has 2 rows, session has 1",
        ),
    ],
)
def test_infer_passes_over_nothing_that_it_does_not_know(runs: dict[str, Path], body: Any, says: str) -> None:
    answer = post(runs["vpq"], "/v2/models/vpq/infer", body)
    assert answer.status_code == 422 and says in sentence(answer)


def test_metrics_count_what_was_answered(runs: dict[str, Path]) -> None:
    async def talk(client: Client) -> str:
        for body in ({"session": []}, {"session": []}, {"session": 1}):
            await client.post("/v1/recommend", json=body)
        await client.get("/never-heard-of")
        return (await client.get("/metrics")).text

    text = ask(runs["supervised"], talk)
    assert 'valuerec_requests_total{route="/v1/recommend",status="200"} 2.0' in text
    assert 'valuerec_requests_total{route="/v1/recommend",status="422"} 1.0' in text
    assert 'valuerec_requests_total{route="other",status="404"} 1.0' in text
    assert "valuerec_batch_sessions_sum 2.0" in text
