"""Whatever JSON is sent: an answer, or an error in one sentence, and never a fault of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from in_process import Client, serving

ids = st.sampled_from(["i001", "i002", "i029", "nobody", "\x00", "é"])
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | ids,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["item", "event", "k"]), inner),
    max_leaves=6,
)
event = ids | st.fixed_dictionaries({"item": ids, "event": st.sampled_from(["click", "purchase"])})
order = {
    "rank_by": st.sampled_from([None, "relevance", "value", "blend"]),
    "blend": st.floats(0, 1) | junk,
    "penalty": st.none() | st.floats(0, 1e9) | junk,
}
limits = st.none() | st.fixed_dictionaries({"allow": st.lists(ids)}) | st.fixed_dictionaries({"block": st.lists(ids)})
wish = st.fixed_dictionaries(
    {"session": st.lists(event, max_size=12)},
    optional={"k": st.integers(1, 1000) | junk, "exclude_seen": st.booleans(), "filter": limits | junk, **order},
)
scored = st.fixed_dictionaries(
    {"session": st.lists(event, max_size=5), "items": st.lists(ids, max_size=5)}, optional=order
)
tensor = st.fixed_dictionaries(
    {
        "name": st.just("session"),
        "shape": st.lists(st.integers(-1, 3), min_size=1, max_size=3),
        "datatype": st.just("BYTES"),
        "data": st.lists(ids | st.just("") | st.lists(ids, max_size=2), max_size=4),
    }
)
request = st.one_of(
    st.tuples(st.just("/v1/recommend"), wish | junk),
    st.tuples(st.just("/v1/recommend/batch"), st.fixed_dictionaries({"requests": st.lists(wish, max_size=3) | junk})),
    st.tuples(st.just("/v1/score"), scored | junk),
    st.tuples(st.just("/v2/models/vpq/infer"), st.fixed_dictionaries({"inputs": st.lists(tensor, max_size=2) | junk})),
)


@pytest.fixture(scope="module")
def talk(runs: dict[str, Path]) -> Iterator[tuple[asyncio.Runner, Client]]:
    with asyncio.Runner() as runner:
        context = serving(runs["vpq"], deadline=60.0)
        yield runner, runner.run(context.__aenter__())
        runner.run(context.__aexit__(None, None, None))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=request)
def test_any_json_is_answered_or_refused_in_one_sentence(
    talk: tuple[asyncio.Runner, Client], asked: tuple[str, Any]
) -> None:
    runner, client = talk

    async def post() -> httpx.Response:
        url, body = asked
        return await client.post(url, content=json.dumps(body), headers={"content-type": "application/json"})

    answer = runner.run(post())
    assert answer.status_code in (200, 400, 422), answer.text
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error["message"].endswith(".") and "\n" not in error["message"]
