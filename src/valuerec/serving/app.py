"""The application: routes behind the door, and errors in one form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import valuerec
from valuerec.serving import inference, metrics, pages, routes
from valuerec.serving.guard import Guard
from valuerec.serving.openapi import completed
from valuerec.serving.problems import CODES, RefusalError, fault
from valuerec.serving.service import Service

_DESCRIPTION: Final = "Next-item recommendations with value and uncertainty. Every error is one sentence."


def application(service: Service) -> Guard:
    """The service as an ASGI application; starting it starts the service."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.metrics.tell_all()  # here, where the others tell it too
        await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="valuerec",
        version=valuerec.__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        # its spans know nothing of what the door refuses, and its logs would tell what was sent
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service = service
    plain = app.openapi
    app.openapi = lambda: completed(plain(), service.keys is not None)  # type: ignore[method-assign]
    app.include_router(routes.router)
    app.include_router(inference.router)
    app.include_router(pages.page_router())

    @app.get("/metrics", summary="Numbers for Prometheus", include_in_schema=False)
    async def numbers() -> Response:
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)

    app.add_exception_handler(RefusalError, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _fault)
    return Guard(
        app,
        service.settings,
        service.keys,
        service.rates,
        lambda: service.queue.full,
        lambda: service.draining,
        service.metrics,
        service.log,
    )


def _respond(refusal: RefusalError, extra: dict[str, str] | None = None) -> Response:
    headers = {name.decode(): value.decode() for name, value in refusal.headers()} | (extra or {})
    return Response(refusal.body(), status_code=refusal.status, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    return _respond(error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentences = {
        404: "There is nothing at this path; /openapi.json says what there is.",
        405: "This path does not know this method; /openapi.json says which it knows.",
        400: "The body is not JSON that can be read; send one JSON object.",
    }
    message = sentences.get(error.status_code, f"{error.detail}.")
    code = CODES.get(error.status_code, "refused")
    return _respond(RefusalError(error.status_code, code, message), dict(error.headers or {}))


async def _fault(request: Request, error: Exception) -> Response:
    return _respond(fault())  # and what was raised goes on to the door, which logs it


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _respond(RefusalError(422, "invalid", _sentence(error.errors())))


def _sentence(errors: Any) -> str:
    """The first thing that is wrong, and where; nothing of what was sent is repeated."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return "The body is not JSON that can be read; send one JSON object."
    inside = [str(part)[:64] for part in first["loc"][1:] if not str(part).startswith("[")]  # no tags of schemas.either
    place = f"field {'.'.join(inside)}" if inside else "body"
    return f"The {place} is wrong: {first['msg'].lower()[:200]}; /openapi.json says what it takes."
