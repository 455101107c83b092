"""The service's own interface, /v1."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from valuerec.ranking import Ranking, Wanted
from valuerec.serving.guard import dumps
from valuerec.serving.openapi import PROBLEMS, refused
from valuerec.serving.problems import RefusalError, draining
from valuerec.serving.queue import Ranked
from valuerec.serving.schemas import (
    Answer,
    Answers,
    Described,
    Items,
    Recommend,
    RecommendBatch,
    Score,
    Sessions,
)
from valuerec.serving.service import Service
from valuerec.serving.versions import Version

router = APIRouter(prefix="/v1", responses=PROBLEMS)


def service_of(request: Request) -> Service:
    """The service behind a request."""
    service: Service = request.app.state.service
    return service


async def ranked(request: Request, wanted: list[Wanted]) -> Ranked:
    """Rank for each, by one version, and note by which."""
    request.state.charge(len(wanted))
    found = await service_of(request).queue.rank(wanted, request.state.deadline)
    request.state.version = found.version.id
    service_of(request).metrics.fallbacks.inc(sum(ranking.fallback is not None for ranking in found.rankings))
    return found


def _answer(request: Request, ranking: Ranking, version: Version) -> dict[str, Any]:
    service = service_of(request)
    return {
        "items": [{"id": item.id, "name": service.names.get(item.id)} | item._asdict() for item in ranking.items],
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


def _no_keys() -> RefusalError:
    message = "A service without keys can't be rolled back over HTTP; start it with --keys FILE."
    return RefusalError(403, "no_keys", message)


def _no_previous() -> RefusalError:
    message = "There is no such model before this one; GET /v1/model says which there is."
    return RefusalError(409, "no_previous", message)


def _not_everywhere() -> RefusalError:
    message = "Not every process has gone back yet; ask again in a second, with ?to=VERSION."
    return RefusalError(503, "not_everywhere", message, 1)


Limit = Annotated[int, Query(ge=1, le=500)]


@router.get("/items", response_model=Items, summary="Search the catalogue by id or name")
def items(
    request: Request, query: Annotated[str, Query(max_length=200)] = "", limit: Limit = 20
) -> Response:  # in a thread of its own: a catalogue may be large
    """The item with that very id first, then those whose id or name has the query in it."""
    service = service_of(request)
    found = service.find(query, limit)
    return _json({"items": [{"id": item, "name": service.names.get(item)} for item in found]})


@router.get("/sessions", response_model=Sessions, summary="Recorded sessions, for the replay")
async def sessions(request: Request, limit: Limit = 50) -> Response:
    """Those of --sessions; none without."""
    service = service_of(request)

    def told(events: list[tuple[str, str]]) -> list[dict[str, str | None]]:
        return [{"item": item, "event": event, "name": service.names.get(item)} for item, event in events]

    return _json({"sessions": [{"id": each.id, "events": told(each.events)} for each in service.past[:limit]]})


@router.get("/model", response_model=Described, summary="The model that answers now")
async def model(request: Request) -> Response:
    """Its configuration, its metrics and its card."""
    service = service_of(request)
    return _json(described(service, service.versions.current))


@router.post(
    "/rollback",
    response_model=Described,
    summary="Let the model before answer again",
    responses=refused("The service has no keys.", _no_keys())
    | refused("There is no such model.", _no_previous())
    | refused("Not every process is there yet, or the process is about to end.", _not_everywhere(), draining()),
)
async def rollback(
    request: Request,
    to: Annotated[
        str | None, Query(max_length=64, description="That version, so that asking twice does no harm.")
    ] = None,
) -> Response:
    """In every process, until another model is put in place; answered when all of them are there."""
    service = service_of(request)
    if service.keys is None:
        raise _no_keys()
    current, previous = service.versions.current, service.versions.previous
    goal = current if to == current.id else previous
    if goal is None or to not in (None, goal.id):
        raise _no_previous()

    def ask() -> bool:  # a model that loads is waited for
        return service.ask_rollback(service.versions.back_to(goal), request.state.deadline)

    if not await asyncio.to_thread(ask):
        raise _not_everywhere()
    return _json(described(service, goal))


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
