"""The Open Inference Protocol, version 2 (KServe), so that whoever serves models already can serve these.

The input `session`: BYTES of shape [B, L], a row a session, oldest item first, "" where there is none. The filter is
one more input, `allow` or `block`, of B rows or of one for all. What else `/v1/recommend` knows is a parameter.

Outputs, shape [B, k]: `items` (BYTES), `score`, `relevance` and, with a critic, `value` and `uncertainty` (FP64); a row
with fewer than k items ends with "" and 0. BYTES as well: `rank_by` and `fallback`, shape [B], "" where there is none,
and `unknown_items`, shape [B, U].
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response

import valuerec
from valuerec.ranking import Ranking, Wanted
from valuerec.serving.guard import dumps
from valuerec.serving.infer_schemas import Infer, Inferred, Input, Live, Metadata, ModelReady, Ready, Server
from valuerec.serving.openapi import PROBLEMS, Responses, refused
from valuerec.serving.problems import RefusalError, draining
from valuerec.serving.routes import ranked, service_of
from valuerec.serving.schemas import MOST_REQUESTS

router = APIRouter(prefix="/v2")

_ENDING: Final = refused("The process is about to end.", draining())
_NAMED: Final[Responses] = {status: PROBLEMS[status] for status in (401, 422)}
Name = Annotated[str, Path(description="The model's, as GET /v1/model says it.", examples=["vpq"])]


def _no_model(name: str) -> RefusalError:
    return RefusalError(404, "no_model", f"There is no such model here; ask for {name}.")


_NO_MODEL: Final = refused("No model of that name.", _no_model("vpq"))
_NUMBERS: Final = ("score", "relevance", "value", "uncertainty")


@router.get("/health/live", response_model=Live, summary="Whether the process lives")
async def live() -> Response:
    """It does, if it answers."""
    return Response(dumps({"live": True}), media_type="application/json")


@router.get("/health/ready", response_model=Ready, summary="Whether requests are welcome", responses=_ENDING)
async def ready(request: Request) -> Response:
    """Not while the process is about to end."""
    if service_of(request).draining:
        raise draining()
    return Response(dumps({"ready": True}), media_type="application/json")


@router.get("", response_model=Server, summary="The server")
async def server() -> Response:
    """Name and version."""
    told = {"name": "valuerec", "version": valuerec.__version__, "extensions": []}
    return Response(dumps(told), media_type="application/json")


@router.get(
    "/models/{name}",
    response_model=Metadata,
    summary="The model's inputs and outputs",
    responses=_NAMED | _NO_MODEL,
)
async def metadata(request: Request, name: Name) -> Response:
    """Of the version that answers now; `allow` and `block` may be left out and are not among the inputs."""
    version = _named(request, name).versions.current
    outputs = [{"name": "items", "datatype": "BYTES", "shape": [-1, -1]}]
    outputs += [{"name": each, "datatype": "FP64", "shape": [-1, -1]} for each in _told(version.engine.has_values)]
    outputs += [{"name": each, "datatype": "BYTES", "shape": [-1]} for each in ("rank_by", "fallback")]
    outputs.append({"name": "unknown_items", "datatype": "BYTES", "shape": [-1, -1]})
    told = {
        "name": name,
        "versions": [version.id],
        "platform": "valuerec",
        "inputs": [{"name": "session", "datatype": "BYTES", "shape": [-1, -1]}],
        "outputs": outputs,
    }
    return Response(dumps(told), media_type="application/json")


@router.get(
    "/models/{name}/ready",
    response_model=ModelReady,
    summary="Whether the model answers",
    responses=_NAMED | _NO_MODEL | _ENDING,
)
async def model_ready(request: Request, name: Name) -> Response:
    """As the server."""
    if _named(request, name).draining:
        raise draining()
    return Response(dumps({"name": name, "ready": True}), media_type="application/json")


@router.post(
    "/models/{name}/infer",
    response_model=Inferred,
    summary="Recommend, by the Open Inference Protocol",
    responses=PROBLEMS | _NO_MODEL,
)
async def infer(request: Request, name: Name, asked: Infer) -> Response:
    """See the description of the protocol."""
    _named(request, name)
    found = await ranked(request, _wanted(asked))
    told = {
        "model_name": name,
        "model_version": found.version.id,
        "id": asked.id or request.state.request_id,
        "outputs": _outputs(found.rankings, found.version.engine.has_values),
    }
    return Response(dumps(told), media_type="application/json")


def _named(request: Request, name: str) -> Any:
    service = service_of(request)
    if name != service.name:
        raise _no_model(service.name)
    return service


def _told(has_values: bool) -> tuple[str, ...]:
    return _NUMBERS if has_values else _NUMBERS[:2]


def _wanted(asked: Infer) -> list[Wanted]:
    rows = {given.name: _rows(given) for given in asked.inputs}
    sessions = rows.get("session", [])
    if len(rows) < len(asked.inputs) or not sessions or ("allow" in rows and "block" in rows):
        message = "The inputs are wrong; give one named session, and for a filter one named allow or block."
        raise RefusalError(422, "inputs", message)
    for name, limits in rows.items():
        if len(limits) not in (1, len(sessions)):
            message = (
                f"The input {name} has {len(limits)} rows, session has {len(sessions)}; give as many, or one for all."
            )
            raise RefusalError(422, "shape", message)
        rows[name] = limits if len(limits) == len(sessions) else limits * len(sessions)
    options = asked.parameters.model_dump()
    return [
        Wanted(
            session=session,
            allow=rows["allow"][row] if "allow" in rows else None,
            block=rows["block"][row] if "block" in rows else (),
            **options,
        )
        for row, session in enumerate(sessions)
    ]


def _rows(given: Input) -> list[list[str]]:
    """The rows of an input, whether its data are flat or nested."""
    flat = [item for part in given.data for item in (part if isinstance(part, list) else [part])]
    rows, length = (given.shape[0], given.shape[1]) if len(given.shape) == 2 else (1, given.shape[0])
    if not 1 <= rows <= MOST_REQUESTS or rows * length != len(flat):
        raise RefusalError(
            422,
            "shape",
            f"The input {given.name} has shape {given.shape} and {len(flat)} ids; give 1 to {MOST_REQUESTS} full rows.",
        )
    return [[item for item in flat[row * length : (row + 1) * length] if item] for row in range(rows)]


def _outputs(rankings: list[Ranking], has_values: bool) -> list[dict[str, Any]]:
    def table(name: str, datatype: str, rows: list[list[Any]], padding: Any) -> dict[str, Any]:
        width = max(map(len, rows))
        data = [value for row in rows for value in [*row, *[padding] * (width - len(row))]]
        return {"name": name, "shape": [len(rows), width], "datatype": datatype, "data": data}

    def column(name: str, data: list[str]) -> dict[str, Any]:
        return {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": data}

    return [
        table("items", "BYTES", [[item.id for item in ranking.items] for ranking in rankings], ""),
        *(
            table(name, "FP64", [[getattr(item, name) for item in ranking.items] for ranking in rankings], 0.0)
            for name in _told(has_values)
        ),
        column("rank_by", [ranking.rank_by for ranking in rankings]),
        column("fallback", [ranking.fallback or "" for ranking in rankings]),
        table("unknown_items", "BYTES", [ranking.unknown_items for ranking in rankings], ""),
    ]
