"""Spans for OpenTelemetry, where its SDK is installed and configured by its own variables (OTEL_*); else nothing."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator


def installed() -> bool:
    """Whether there is anything to send spans."""
    try:
        return importlib.util.find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:
        return False


@contextlib.contextmanager
def span(name: str, request_id: str) -> Iterator[None]:
    """A span around a request."""
    from opentelemetry import trace

    with trace.get_tracer("valuerec").start_as_current_span(name, attributes={"request.id": request_id}):
        yield
