"""Every route shows what it takes and gives, and what it shows is so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from in_process import Client, put_in_place, serving, version_of
from serving_tools import made_up_run
from valuerec.serving.keys import new_key

Told = dict[str, Any]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models that know the items of the examples."""
    folder, ids = tmp_path_factory.mktemp("examples"), ["214820942", "214826810", "214837485", "214857030"]
    heads = {"vpq": 3, "supervised": 0}
    return {name: made_up_run(folder / name, 4, width=8, heads=heads[name], ids=ids) for name in heads}


def talking(runs: dict[str, Path], folder: Path, talk: Callable[[Client, Told], Awaitable[None]]) -> None:
    """With a service that has all there is: keys, names, recorded sessions, and a model before this one."""
    (folder / "names.csv").write_text("id,name\n214837485,Kettle\n")
    (folder / "past.jsonl").write_text('{"session": "a", "events": [{"item": "214837485", "event": "click"}]}\n')
    (folder / "live").symlink_to(runs["supervised"])
    key = new_key(folder / "keys", "shop")
    files = {"catalogue": folder / "names.csv", "sessions": folder / "past.jsonl", "keys": folder / "keys"}

    async def main() -> None:
        async with serving(folder / "live", name="vpq", **files) as client:
            client.headers["x-api-key"] = key
            put_in_place(folder / "live", runs["vpq"])
            assert client.service.versions.look()
            await talk(client, (await client.get("/openapi.json")).json())

    asyncio.run(main())


def examples(content: Told, told: Told) -> list[Any]:
    """Those of a request's or an answer's content, at the place or of its schema."""
    (media,) = content.values()
    shown = [example["value"] for example in media.get("examples", {}).values()]
    if "$ref" in media["schema"]:
        shown += told["components"]["schemas"][media["schema"]["$ref"].rsplit("/", 1)[1]].get("examples", [])
    return shown


def operations(told: Told) -> Iterator[tuple[str, str, Told]]:
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def valid(content: Told, told: Told) -> Any:
    (media,) = content.values()
    return jsonschema_rs.validator_for({**media["schema"], "components": told["components"]})


def test_every_request_and_answer_has_an_example_of_its_own_schema(runs: dict[str, Path], tmp_path: Path) -> None:
    async def talk(client: Client, told: Told) -> None:
        found = {(method, path) for method, path, _ in operations(told)}
        assert found >= {
            ("POST", "/v1/recommend"),
            ("POST", "/v1/recommend/batch"),
            ("POST", "/v1/score"),
            ("GET", "/v1/items"),
            ("GET", "/v1/sessions"),
            ("GET", "/v1/model"),
            ("POST", "/v1/rollback"),
            ("GET", "/v2"),
            ("GET", "/v2/health/live"),
            ("GET", "/v2/health/ready"),
            ("GET", "/v2/models/{name}"),
            ("GET", "/v2/models/{name}/ready"),
            ("POST", "/v2/models/{name}/infer"),
        }
        for method, path, operation in operations(told):
            contents = [response["content"] for response in operation["responses"].values()]
            if "requestBody" in operation:
                contents.append(operation["requestBody"]["content"])
            for content in contents:
                shown = examples(content, told)
                assert shown, (method, path, content)
                for example in shown:
                    valid(content, told).validate(example)
            for status, response in operation["responses"].items():
                assert ("Retry-After" in response.get("headers", {})) == (status in ("429", "503")), (path, status)

    talking(runs, tmp_path, talk)


def test_every_example_is_answered_and_every_answer_looks_like_its_example(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    async def talk(client: Client, told: Told) -> None:
        for method, path, operation in operations(told):
            given = {
                each["name"]: each["schema"]["examples"][0]
                for each in operation.get("parameters", [])
                if "examples" in each["schema"]
            }
            url = path.format(**given)
            bodies = examples(operation["requestBody"]["content"], told) if "requestBody" in operation else [None]
            for body in bodies:
                answer = await client.request(method, url, json=body, params=given)
                assert answer.status_code == 200, (path, answer.text)
                content = operation["responses"]["200"]["content"]
                valid(content, told).validate(answer.json())
                for example in examples(content, told):
                    assert shape(answer.json()) == shape(example), path

    talking(runs, tmp_path, talk)


def shape(value: Any) -> Any:
    """The names in a JSON value, of lists those of their first element; free-form metrics are left out."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items() if name != "metrics"}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [shape(value[0])]
    return None


def test_what_is_told_of_a_refusal_is_what_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    async def talk(client: Client, told: Told) -> None:
        asked: list[tuple[str, str, dict[str, Any], int]] = [
            ("POST", "/v1/recommend", {"content": b"{"}, 415),
            ("POST", "/v1/recommend", {"json": {}}, 422),
            ("GET", "/v1/model", {"headers": {"x-api-key": "wrong"}}, 401),
            ("POST", "/v1/rollback", {"params": {"to": "never"}}, 409),
            ("GET", "/v2/models/{name}", {}, 404),
        ]
        for method, path, sent, status in asked:
            answer = await client.request(method, path.replace("{name}", "other"), **sent)
            entry = told["paths"][path][method.lower()]["responses"][str(status)]
            codes = {
                each["value"]["error"]["code"] for each in entry["content"]["application/json"]["examples"].values()
            }
            assert answer.status_code == status and answer.json()["error"]["code"] in codes

    talking(runs, tmp_path, talk)


@pytest.mark.parametrize("name", ["vpq", "supervised"])
def test_the_version_that_is_told_is_that_of_the_manifest(runs: dict[str, Path], name: str) -> None:
    async def main() -> str:
        async with serving(runs[name]) as client:
            return str((await client.get("/v1/model")).json()["version"])

    assert asyncio.run(main()) == version_of(runs[name])
