"""Spans for OpenTelemetry, with a provider that remembers them in place of its SDK."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace

from in_process import serving
from valuerec.ranking import Engine

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Span(trace.NonRecordingSpan):
    def __init__(self, name: str, context: Any, attributes: dict[str, Any]) -> None:
        parent = trace.get_current_span(context).get_span_context()
        super().__init__(parent)
        self.name, self.trace_id, self.told, self.status = name, f"{parent.trace_id:032x}", dict(attributes), None

    def update_name(self, name: str) -> None:
        self.name = name

    def set_attribute(self, key: str, value: Any) -> None:
        self.told[key] = value

    def set_status(self, status: Any, description: str | None = None) -> None:
        self.status = status


class Provider(trace.TracerProvider):
    def __init__(self) -> None:
        self.spans: list[Span] = []

    def get_tracer(self, *names: Any, **more: Any) -> trace.Tracer:
        provider = self

        class Tracer(trace.NoOpTracer):
            @contextlib.contextmanager
            def start_as_current_span(self, name: str, **options: Any) -> Iterator[Span]:
                assert options["kind"] is trace.SpanKind.SERVER
                provider.spans.append(Span(name, options["context"], options["attributes"]))
                yield provider.spans[-1]

        return Tracer()


def test_each_request_is_a_span_of_its_clients_trace(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)

    async def main() -> None:
        async with serving(runs["supervised"], deadline=60.0) as client:
            parent = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "mine"}
            await client.post("/v1/recommend", json={"session": []}, headers=parent)
            await client.get("/never/heard/of")
            with monkeypatch.context() as patch:
                patch.setattr(Engine, "rank", lambda self, *asked: 1 / 0)
                await client.post("/v1/recommend", json={"session": ["secret"]})

    asyncio.run(main())
    well, lost, broken = provider.spans
    assert (well.name, well.trace_id, well.status) == ("POST /v1/recommend", TRACE, None)
    assert well.told == {
        "http.request.method": "POST",
        "http.route": "/v1/recommend",
        "http.response.status_code": 200,
        "request.id": "mine",
    }
    assert lost.name == "GET other" and lost.told["http.response.status_code"] == 404
    assert broken.told["http.response.status_code"] == 500 and broken.status is trace.StatusCode.ERROR
    assert "secret" not in str(broken.told)


def test_where_nothing_is_set_up_nothing_is_traced(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer", lambda *names: 1 / 0)

    async def main() -> int:
        async with serving(runs["supervised"], deadline=60.0) as client:
            return (await client.post("/v1/recommend", json={"session": []})).status_code

    assert asyncio.run(main()) == 200
