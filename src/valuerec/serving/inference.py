"""The Open Inference Protocol, version 2 (KServe), so that whoever serves models already can serve these.

One input, `session`: BYTES of shape [B, L], a row a session, oldest item first, "" where there is none. What else
`/v1/recommend` knows is a parameter. Outputs, shape [B, k]: `items` (BYTES), `score`, `relevance` and, with a critic,
`value` and `uncertainty` (FP64); a row with fewer than k items ends with "" and 0.
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
    """Of the version that answers now."""
    version = _named(request, name).versions.current
    outputs = [{"name": "items", "datatype": "BYTES", "shape": [-1, -1]}]
    outputs += [{"name": each, "datatype": "FP64", "shape": [-1, -1]} for each in _told(version.engine.has_values)]
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
    options = asked.parameters
    wanted = [
        Wanted(
            session=session,
            k=options.k,
            exclude_seen=options.exclude_seen,
            rank_by=options.rank_by,
            blend=options.blend,
            penalty=options.penalty,
        )
        for session in _sessions(asked.inputs[0])
    ]
    found = await ranked(request, wanted)
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


def _sessions(given: Input) -> list[list[str]]:
    """The rows of the input, whether its data are flat or nested."""
    flat = [item for part in given.data for item in (part if isinstance(part, list) else [part])]
    rows, length = (given.shape[0], given.shape[1]) if len(given.shape) == 2 else (1, given.shape[0])
    if not 1 <= rows <= MOST_REQUESTS or rows * length != len(flat):
        raise RefusalError(
            422,
            "shape",
            f"The input session has shape {given.shape} and {len(flat)} ids; give 1 to {MOST_REQUESTS} full rows.",
        )
    return [[item for item in flat[row * length : (row + 1) * length] if item] for row in range(rows)]


def _outputs(rankings: list[Ranking], has_values: bool) -> list[dict[str, Any]]:
    k = max(len(ranking.items) for ranking in rankings)
    shape = [len(rankings), k]

    def column(name: str, padding: Any) -> list[Any]:
        rows = ([getattr(item, name) for item in ranking.items] for ranking in rankings)
        return [value for row in rows for value in [*row, *[padding] * (k - len(row))]]

    outputs = [{"name": "items", "shape": shape, "datatype": "BYTES", "data": column("id", "")}]
    for name in _told(has_values):
        outputs.append({"name": name, "shape": shape, "datatype": "FP64", "data": column(name, 0.0)})
    return outputs
