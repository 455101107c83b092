"""What a `metrics.json` says, checked before anything is made of it: a bundle's may be anybody's."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from valuerec.errors import ValuerecError
from valuerec.folders import read_json
from valuerec.recipe import checked

LARGEST_METRICS: Final = 1 << 20  # bytes

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Figures = Annotated[
    dict[Annotated[str, Field(pattern=r"^(hr|ndcg)@[1-9]\d{0,5}$")], _Share | None], Field(min_length=1, max_length=100)
]
_Split = Annotated[dict[Literal["purchase", "click"], _Figures], Field(min_length=1)]


class _Selection(BaseModel, strict=True):
    by: str
    step: int = Field(ge=0)


class _Outside(BaseModel, strict=True):
    share: _Share
    bounds: Annotated[list[_Finite], Field(min_length=2, max_length=2)]


class _Scores(BaseModel, strict=True):
    """Of a run that was scored; a bundle of one that was not holds none of it. A trial has no `test`."""

    test: _Split = Field(default={})
    validation: _Split
    selection: _Selection
    steps: int = Field(ge=0)
    seconds: _Finite
    status: str
    outside: _Outside | None = None


def read_metrics(path: Path) -> dict[str, Any]:
    """The metrics of a run or bundle; empty where it was not scored.

    Raises:
        ValuerecError: where the file is too large, unreadable, or says something else than scores.
    """
    metrics = read_json(path, LARGEST_METRICS)
    if metrics == {}:
        return {}
    scores = checked(str(path), "", functools.partial(_Scores.model_validate, metrics))
    if len({tuple(figures) for split in (scores.test, scores.validation) for figures in split.values()}) > 1:
        raise ValuerecError(f"{path} has not the same scores for all splits and events; make it again.")
    return dict(metrics)
