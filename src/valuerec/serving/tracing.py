"""Spans for OpenTelemetry, where it is set up; else nothing.

Its own starter does that, by its own variables: `opentelemetry-instrument valuerec serve ...` with `OTEL_*`. The span
of a request goes on the trace that its `traceparent` names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

Tell = Callable[[str, int], None]


def is_set_up() -> bool:
    """Whether spans would go anywhere."""
    try:
        from opentelemetry import trace
    except ImportError:
        return False
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextlib.contextmanager
def span(method: str, headers: Mapping[bytes, bytes], request_id: str) -> Iterator[Tell]:
    """A span around a request.

    Args:
        method: of the request.
        headers: of the request; `traceparent` and `tracestate` are looked at.
        request_id: as in the log.

    Yields:
        What is to be told the route and the status, once they are known.
    """
    from opentelemetry import propagate, trace

    carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
    attributes = {"http.request.method": method, "request.id": request_id}
    tracer = trace.get_tracer("valuerec")
    with tracer.start_as_current_span(
        method, context=propagate.extract(carrier), kind=trace.SpanKind.SERVER, attributes=attributes
    ) as current:

        def tell(route: str, status: int) -> None:
            current.update_name(f"{method} {route}")
            current.set_attribute("http.route", route)
            current.set_attribute("http.response.status_code", status)
            if status >= 500:
                current.set_status(trace.StatusCode.ERROR)

        yield tell
