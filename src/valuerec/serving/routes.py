"""The service's own interface, /v1."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from valuerec.ranking import Ranking, Wanted
from valuerec.serving.guard import dumps
from valuerec.serving.problems import RefusalError
from valuerec.serving.queue import Ranked
from valuerec.serving.schemas import (
    Answer,
    Answers,
    Described,
    Items,
    Problem,
    Recommend,
    RecommendBatch,
    Score,
    Sessions,
)
from valuerec.serving.service import Service
from valuerec.serving.versions import Version

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Problem, "description": description}
    for status, description in {
        400: "The request is no HTTP that can be read.",
        401: "No valid key.",
        408: "The body did not arrive in time.",
        413: "The body is too large.",
        415: "The body is not JSON.",
        422: "The request does not say what it should.",
        429: "Too many requests wait, or this key has asked too often; see Retry-After.",
        503: "The deadline has passed, or the process is about to end; see Retry-After.",
    }.items()
}

router = APIRouter(prefix="/v1", responses=PROBLEMS)


def service_of(request: Request) -> Service:
    """The service behind a request."""
    service: Service = request.app.state.service
    return service


async def ranked(request: Request, wanted: list[Wanted]) -> Ranked:
    """Rank for each, by one version, and note by which."""
    request.state.charge(len(wanted) - 1)
    found = await service_of(request).queue.rank(wanted, request.state.deadline)
    request.state.version = found.version.id
    return found


def _answer(request: Request, ranking: Ranking, version: Version) -> dict[str, Any]:
    service = service_of(request)
    if ranking.fallback is not None:
        service.metrics.fallbacks.inc()
    return {
        "items": [item._asdict() for item in ranking.items],
        "rank_by": ranking.rank_by,
        "fallback": ranking.fallback,
        "unknown_items": ranking.unknown_items,
        "model": {"name": service.name, "version": version.id},
        "request_id": request.state.request_id,
    }


def _json(content: Any) -> Response:
    return Response(dumps(content), media_type="application/json")


@router.post("/recommend", response_model=Answer, summary="Recommend items for a session")
async def recommend(request: Request, asked: Recommend) -> Response:
    """The k best items, best first, ties by id."""
    found = await ranked(request, [asked.wanted()])
    return _json(_answer(request, found.rankings[0], found.version))


@router.post("/recommend/batch", response_model=Answers, summary="Recommend items for several sessions")
async def recommend_batch(request: Request, asked: RecommendBatch) -> Response:
    """An answer a request, all by one version of the model."""
    found = await ranked(request, [each.wanted() for each in asked.requests])
    return _json({"answers": [_answer(request, ranking, found.version) for ranking in found.rankings]})


@router.post("/score", response_model=Answer, summary="Put somebody else's candidates in order")
async def score(request: Request, asked: Score) -> Response:
    """All of the given items that the model knows, best first, ties by id."""
    found = await ranked(request, [asked.wanted()])
    return _json(_answer(request, found.rankings[0], found.version))


Limit = Annotated[int, Query(ge=1, le=500)]


@router.get("/items", response_model=Items, summary="Search the catalogue by id or name")
def items(
    request: Request, query: Annotated[str, Query(max_length=200)] = "", limit: Limit = 20
) -> Response:  # in a thread of its own: a catalogue may be large
    """The item with that very id first, then those whose id or name has the query in it."""
    found = service_of(request).find(query, limit)
    return _json({"items": [{"id": item, "name": name} for item, name in found]})


@router.get("/sessions", response_model=Sessions, summary="Recorded sessions, for the replay")
async def sessions(request: Request, limit: Limit = 50) -> Response:
    """Those of --sessions; none without."""
    past = service_of(request).past[:limit]
    told = [{"id": each.id, "events": [{"item": item, "event": event} for item, event in each.events]} for each in past]
    return _json({"sessions": told})


@router.get("/model", response_model=Described, summary="The model that answers now")
async def model(request: Request) -> Response:
    """Its configuration, its metrics and its card."""
    service = service_of(request)
    return _json(described(service, service.versions.current))


@router.post("/rollback", response_model=Described, summary="Let the model before answer again")
async def rollback(request: Request) -> Response:
    """In every process, until another model is put in place."""
    service = service_of(request)
    if service.keys is None:
        raise RefusalError(
            403, "no_keys", "A service without keys can't be rolled back over HTTP; start it with --keys FILE."
        )
    previous = service.versions.previous
    if previous is None:
        raise RefusalError(409, "no_previous", "There is no model before this one; put another one in place.")
    service.ask_rollback()
    return _json(described(service, service.versions.current))


def described(service: Service, version: Version) -> dict[str, Any]:
    """What is told of a version."""
    model = version.engine.model
    rewards = {kind: float(value) for kind, value in model.config.get("rewards", {}).items()}
    previous = service.versions.previous
    return {
        "version": version.id,
        "name": service.name,
        "backbone": model.config["backbone"]["name"],
        "method": model.config["method"]["name"],
        "items": len(model.item_ids),
        "has_values": version.engine.has_values,
        "recommends_by": "relevance" if model.recommends_by == "items" else "value",
        "rewards": rewards,
        "bounds": _bounds(rewards, model.config["method"].get("discount")) if version.engine.has_values else None,
        "penalty": version.engine.penalty,
        "max_disagreement": version.engine.max_disagreement,
        "metrics": version.metrics,
        "card": version.card,
        "previous_version": previous.id if previous else None,
    }


def _bounds(rewards: dict[str, float], discount: float | None) -> list[float] | None:
    """Between which any true value lies: a session may end at once, or earn the most for ever."""
    if not rewards or discount is None or not 0 <= discount < 1:
        return None
    return [min(0.0, *rewards.values()) / (1 - discount), max(0.0, *rewards.values()) / (1 - discount)]
