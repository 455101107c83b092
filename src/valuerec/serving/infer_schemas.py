"""What is asked and answered by the Open Inference Protocol, version 2, as JSON."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, Tag

from valuerec.ranking import POOL
from valuerec.serving.schemas import MOST_EVENTS, Asked, Blend, Order, Penalty, either, examples

_Shape = Annotated[list[Annotated[int, Field(ge=0, le=MOST_EVENTS)]], Field(min_length=1, max_length=2)]
_INPUT: Final = {"name": "session", "datatype": "BYTES", "shape": [-1, -1]}


_Part = Annotated[
    Annotated[str, Tag("[id]")] | Annotated[list[str], Tag("[row]")],
    either("[id]", "[row]", list, "it should be an id, or a row of ids"),
]


class Parameters(Asked):
    """What `/v1/recommend` knows beside the session and the filter; one that nobody knows is refused."""

    k: Annotated[int, Field(ge=1, le=POOL)] = 20
    exclude_seen: bool = False
    rank_by: Order = None
    blend: Blend = 0.5
    penalty: Penalty = None


class Input(BaseModel):
    """A tensor of ids; what else the protocol allows beside it is passed over."""

    model_config = ConfigDict(extra="ignore")

    name: Literal["session", "allow", "block"]
    shape: _Shape
    datatype: Literal["BYTES"]
    data: Annotated[list[_Part], Field(max_length=MOST_EVENTS)]


class Infer(BaseModel):
    """A request of the protocol."""

    model_config = examples(
        {
            "inputs": [_INPUT | {"shape": [2, 2], "data": ["214837485", "214820942", "214826810", ""]}],
            "parameters": {"k": 3},
        },
        {
            "inputs": [
                _INPUT | {"shape": [1, 1], "data": ["214837485"]},
                {"name": "block", "datatype": "BYTES", "shape": [1, 1], "data": ["214820942"]},
            ],
            "parameters": {"k": 3, "exclude_seen": True},
        },
    )

    id: Annotated[str | None, Field(max_length=128)] = None
    inputs: Annotated[
        list[Input],
        Field(
            min_length=1,
            max_length=2,
            description="session, a row a session; for a filter allow or block, a row a session or one for all.",
        ),
    ]
    parameters: Parameters = Parameters()


class Output(BaseModel):
    """A tensor: ids, or numbers."""

    name: str
    shape: list[int]
    datatype: Literal["BYTES", "FP64"]
    data: list[str] | list[float]


class Inferred(BaseModel):
    """An answer of the protocol."""

    model_config = examples(
        {
            "model_name": "vpq",
            "model_version": "051445a34a8d",
            "id": "41ace41e18ef478591087f362383f45a",
            "outputs": [
                {"name": "items", "shape": [1, 2], "datatype": "BYTES", "data": ["214820942", "214826810"]},
                {"name": "score", "shape": [1, 2], "datatype": "FP64", "data": [0.131, 0.082]},
                {"name": "relevance", "shape": [1, 2], "datatype": "FP64", "data": [0.131, 0.082]},
                {"name": "value", "shape": [1, 2], "datatype": "FP64", "data": [0.57, 0.49]},
                {"name": "uncertainty", "shape": [1, 2], "datatype": "FP64", "data": [0.02, 0.03]},
                {"name": "rank_by", "shape": [1], "datatype": "BYTES", "data": ["relevance"]},
                {"name": "fallback", "shape": [1], "datatype": "BYTES", "data": [""]},
                {"name": "unknown_items", "shape": [1, 1], "datatype": "BYTES", "data": ["214837486"]},
            ],
        }
    )

    model_name: str
    model_version: str
    id: str
    outputs: list[Output]


class Live(BaseModel):
    """The process lives."""

    model_config = examples({"live": True})

    live: Literal[True]


class Ready(BaseModel):
    """Requests are welcome."""

    model_config = examples({"ready": True})

    ready: Literal[True]


class Server(BaseModel):
    """The server."""

    model_config = examples({"name": "valuerec", "version": "0.1.0", "extensions": []})

    name: str
    version: str
    extensions: list[str]


class Tensor(BaseModel):
    """What a model takes or gives; -1 for any length."""

    name: str
    datatype: Literal["BYTES", "FP64"]
    shape: list[int]


class Metadata(BaseModel):
    """A model's inputs and outputs."""

    model_config = examples(
        {
            "name": "vpq",
            "versions": ["051445a34a8d"],
            "platform": "valuerec",
            "inputs": [_INPUT],
            "outputs": [
                {"name": "items", "datatype": "BYTES", "shape": [-1, -1]},
                {"name": "score", "datatype": "FP64", "shape": [-1, -1]},
            ],
        }
    )

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class ModelReady(BaseModel):
    """The model answers."""

    model_config = examples({"name": "vpq", "ready": True})

    name: str
    ready: Literal[True]
