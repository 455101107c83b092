"""What the description of the interface says of refusals: one sentence and one example a status."""

from __future__ import annotations

import json
from typing import Any, Final

from valuerec.serving import infer_schemas, schemas
from valuerec.serving.guard import GUARDED
from valuerec.serving.problems import RefusalError, draining, encoded, queue_full, too_late
from valuerec.serving.schemas import Problem

Responses = dict[int | str, dict[str, Any]]


def refused(description: str, *refusals: RefusalError) -> Responses:
    """The entry of a status.

    Args:
        description: when it is given.
        refusals: examples, all of that status.
    """
    examples = {refusal.code: {"value": json.loads(refusal.body())} for refusal in refusals}
    entry = {
        "model": Problem,
        "description": description,
        "content": {"application/json": {"examples": examples}},
    }
    if refusals[0].retry_after is not None:
        told = {"description": "Seconds after which to ask again.", "schema": {"type": "integer", "minimum": 1}}
        entry["headers"] = {"Retry-After": told}
    return {refusals[0].status: entry}


_KEYS: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def completed(told: dict[str, Any], needs_key: bool) -> dict[str, Any]:
    """A description with what FastAPI leaves out: what is null in the models' examples, and where a key goes."""
    for models in (schemas, infer_schemas):
        for name, model in vars(models).items():
            extra = getattr(model, "model_config", {}).get("json_schema_extra")
            if extra and name in told["components"]["schemas"]:
                told["components"]["schemas"][name].update(extra)
    if needs_key:
        told["components"]["securitySchemes"] = _KEYS
        for path, methods in told["paths"].items():
            for operation in methods.values() if path.startswith(GUARDED) else ():
                operation["security"] = [{name: []} for name in _KEYS]
    return told


PROBLEMS: Final[Responses] = {
    **refused(
        "The request is no HTTP, or its body no JSON, that can be read.",
        RefusalError(400, "bad_request", "The body is not JSON that can be read; send one JSON object."),
    ),
    **refused(
        "No valid key.",
        RefusalError(401, "no_key", "This needs a valid key; send it as Authorization: Bearer KEY."),
    ),
    **refused(
        "The body did not arrive in time.",
        RefusalError(408, "slow", "The body did not arrive in time; send it again."),
    ),
    **refused(
        "The body is too large.",
        RefusalError(413, "too_large", "The body has more than 1048576 bytes; send less at once."),
    ),
    **refused(
        "The body does not say that it is JSON, or is encoded.",
        RefusalError(415, "not_json", "The body must be JSON; send it with Content-Type: application/json."),
        encoded(),
    ),
    **refused(
        "The request does not say what it should.",
        RefusalError(422, "invalid", "The field session is wrong: field required; /openapi.json says what it takes."),
        RefusalError(422, "no_values", "The model has no critic and gives no values; rank by relevance."),
    ),
    **refused(
        "Too many sessions wait, or this key has asked too often.",
        queue_full(),
        RefusalError(429, "rate", "This key has asked too often; try again in 2 seconds.", 2),
    ),
    **refused("The deadline has passed, or the process is about to end.", too_late(), draining()),
}
