"""What is asked and answered, as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from valuerec.dataset import EventKind
from valuerec.ranking import POOL, Wanted

MOST_EVENTS: Final = 10_000  # of a session, a filter or a list
MOST_REQUESTS: Final = 256  # of a batch

Id = Annotated[str, Field(min_length=1)]  # how long is bounded by the body alone, as it is in a catalogue


def examples(*shown: dict[str, Any]) -> ConfigDict:
    """Examples of a model, for the description of the interface; the tests send and check them."""
    return ConfigDict(json_schema_extra={"examples": [*shown]})


class Asked(BaseModel):
    """What is asked: a name that nobody knows is a mistake, not a wish."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Event(Asked):
    """An item of a session, and what was done with it, which the model does not look at."""

    item: Id
    event: EventKind = "click"


def either(text: str, other: str, kind: type, message: str) -> Discriminator:
    """How to tell a text from what else may stand in its place, so that an error is that of what was meant.

    Args:
        text: the tag of the text; tags are in brackets, and `valuerec.serving.app` leaves them out of the place.
        other: the tag of the other.
        kind: of the other: a dict or a list.
        message: what is said of anything else.
    """

    def tag(given: Any) -> str | None:
        return text if isinstance(given, str) else other if isinstance(given, kind) else None

    return Discriminator(tag, custom_error_type="either", custom_error_message=message)


_Entry = Annotated[
    Annotated[Id, Tag("[id]")] | Annotated[Event, Tag("[event]")],
    either("[id]", "[event]", dict, "it should be an id, or an object with an item and an event"),
]
Session = Annotated[
    list[_Entry],
    Field(
        max_length=MOST_EVENTS, description="Oldest first; empty for a new visitor. Items not known are passed over."
    ),
]
Ids = Annotated[list[Id], Field(max_length=MOST_EVENTS)]
Order = Annotated[
    Literal["relevance", "value", "blend"] | None,
    Field(description="By default what the model was trained to recommend by."),
]
Blend = Annotated[
    float, Field(ge=0, le=1, allow_inf_nan=False, description="0 for relevance alone, 1 for value alone.")
]
Penalty = Annotated[
    float | None,
    Field(ge=0, le=1e9, allow_inf_nan=False, description="λ of W = 1/(1 + λ·uncertainty); by default the model's own."),
]


class Filter(Asked):
    """Either the only items that may be recommended, or those that may not."""

    allow: Ids | None = None
    block: Ids | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Filter:
        if self.allow is not None and self.block is not None:
            raise ValueError("allow and block exclude each other")
        return self


class Recommend(Asked):
    """What to recommend to whom."""

    model_config = examples(
        {"session": ["214837485", {"item": "214820942", "event": "click"}], "k": 3},
        {
            "session": ["214837485"],
            "k": 3,
            "exclude_seen": True,
            "filter": {"block": ["214820942"]},
            "rank_by": "blend",
            "blend": 0.5,
            "penalty": 20.0,
        },
    )

    session: Session
    k: Annotated[int, Field(ge=1, le=POOL)] = 20
    exclude_seen: bool = False
    filter: Filter | None = None
    rank_by: Order = None
    blend: Blend = 0.5
    penalty: Penalty = None

    def wanted(self) -> Wanted:
        """For the engine."""
        limits = self.filter or Filter()
        return Wanted(
            session=_ids(self.session),
            k=self.k,
            exclude_seen=self.exclude_seen,
            allow=limits.allow,
            block=limits.block or (),
            rank_by=self.rank_by,
            blend=self.blend,
            penalty=self.penalty,
        )


class RecommendBatch(Asked):
    """Several requests, all answered by one version of the model."""

    model_config = examples({"requests": [{"session": ["214837485"], "k": 3}, {"session": [], "k": 3}]})

    requests: Annotated[list[Recommend], Field(min_length=1, max_length=MOST_REQUESTS)]


class Score(Asked):
    """Somebody else's candidates, to be put in order."""

    model_config = examples({"session": ["214837485"], "items": ["214820942", "214826810"], "rank_by": "relevance"})

    session: Session
    items: Ids
    rank_by: Order = None
    blend: Blend = 0.5
    penalty: Penalty = None

    def wanted(self) -> Wanted:
        """For the engine."""
        return Wanted(
            session=_ids(self.session),
            candidates=self.items,
            rank_by=self.rank_by,
            blend=self.blend,
            penalty=self.penalty,
        )


def _ids(session: list[str | Event]) -> list[str]:
    return [event if isinstance(event, str) else event.item for event in session]


_ITEM: Final = {
    "id": "214820942",
    "name": "Blue kettle",
    "score": 0.131,
    "relevance": 0.131,
    "value": 0.57,
    "uncertainty": 0.02,
    "weight": 0.714,
}
_ANSWER: Final = {
    "items": [_ITEM, _ITEM | {"id": "214826810", "name": None, "score": 0.082, "relevance": 0.082}],
    "rank_by": "relevance",
    "fallback": None,
    "unknown_items": ["214837485"],
    "model": {"name": "vpq", "version": "051445a34a8d"},
    "request_id": "41ace41e18ef478591087f362383f45a",
}


class Item(BaseModel):
    """A recommended item; value, uncertainty and weight are null for a model without a critic."""

    id: str
    name: str | None = Field(description="Of the catalogue file; null where it has none.")
    score: float = Field(description="What orders the list.")
    relevance: float = Field(description="Probability of the item head over the whole catalogue.")
    value: float | None = Field(description="Mean of the Q-heads, in units of the rewards.")
    uncertainty: float | None = Field(description="Standard deviation of the Q-heads.")
    weight: float | None = Field(description="W = 1/(1 + λ·uncertainty).")


class Version(BaseModel):
    """The model that answered."""

    name: str
    version: str


class Answer(BaseModel):
    """Items, best first."""

    model_config = examples(_ANSWER)

    items: list[Item]
    rank_by: Literal["relevance", "value", "blend"]
    fallback: str | None = Field(description="Why the order is not the one asked for.")
    unknown_items: list[str] = Field(
        description="Ids of the session, of the items and of the filter that the model does not know, each once."
    )
    model: Version
    request_id: str


class Answers(BaseModel):
    """An answer a request, in their order."""

    model_config = examples({"answers": [_ANSWER, _ANSWER | {"unknown_items": []}]})

    answers: list[Answer]


class Error(BaseModel):
    """Why there is no answer."""

    code: str
    message: str


class Problem(BaseModel):
    """What every error looks like."""

    error: Error


class NamedItem(BaseModel):
    """An item of the catalogue."""

    id: str
    name: str | None


class Items(BaseModel):
    """What a search found."""

    model_config = examples({"items": [{"id": "214820942", "name": "Blue kettle"}, {"id": "214826810", "name": None}]})

    items: list[NamedItem]


class PastEvent(BaseModel):
    """What was done."""

    item: str
    event: EventKind
    name: str | None


class PastSession(BaseModel):
    """A recorded session, oldest event first."""

    id: str
    events: list[PastEvent]


class Sessions(BaseModel):
    """Recorded sessions."""

    model_config = examples(
        {
            "sessions": [
                {
                    "id": "11",
                    "events": [
                        {"item": "214820942", "event": "click", "name": "Blue kettle"},
                        {"item": "214820942", "event": "purchase", "name": "Blue kettle"},
                    ],
                }
            ]
        }
    )

    sessions: list[PastSession]


class Described(BaseModel):
    """The model that answers now."""

    model_config = examples(
        {
            "version": "051445a34a8d",
            "name": "vpq",
            "backbone": "sasrec",
            "method": "vpq",
            "items": 11811,
            "has_values": True,
            "recommends_by": "relevance",
            "rewards": {"click": 0.2, "purchase": 1.0},
            "bounds": [0.0, 2.0],
            "penalty": 20.0,
            "max_disagreement": 1.0,
            "metrics": {"test": {"purchase": {"NDCG@10": 0.42}}},
            "card": "# vpq",
            "previous_version": None,
        }
    )

    version: str
    name: str
    backbone: str
    method: str
    items: int
    has_values: bool
    recommends_by: Literal["relevance", "value"]
    rewards: dict[str, float]
    bounds: list[float] | None = Field(description="Between which a true value lies.")
    penalty: float
    max_disagreement: float
    metrics: dict[str, Any]
    card: str
    previous_version: str | None = Field(description="What a rollback would bring back.")
