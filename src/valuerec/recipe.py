"""What a model's `config.json` describes, checked before anything is built from it: the file may be anybody's.

The bounds are far above what anybody trains. They are there so that sizes, multiplied, stay numbers that a machine can
hold; whether the memory is really needed is told by comparing the network's shapes with those of the file of weights.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar, get_type_hints

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from valuerec.backbones import BACKBONES, Backbone
from valuerec.dataset import LONGEST_WINDOW, EventKind
from valuerec.errors import ValuerecError
from valuerec.folders import read_json
from valuerec.methods import METHODS, Method
from valuerec.plain import plain

LARGEST_CONFIG: Final = 256 << 10  # bytes
MOST_ITEMS: Final = (1 << 31) - 2  # an index, and padding's, are kept in 32 bits
MOST: Final = {"width": 1 << 16, "heads": 1 << 12}

_Kind = TypeVar("_Kind")


class _Dataset(BaseModel, strict=True):
    items: int = Field(ge=1, le=MOST_ITEMS)
    fingerprint: str


class _Training(BaseModel, strict=True):
    window: int = Field(ge=1, le=LONGEST_WINDOW)


class _Named(BaseModel, strict=True, extra="allow"):
    name: str


_Reward = Annotated[float, Field(allow_inf_nan=False)]


class _Config(BaseModel, strict=True):
    dataset: _Dataset
    backbone: _Named
    method: _Named
    training: _Training
    rewards: dict[EventKind, _Reward] = {}


class Recipe(NamedTuple):
    """How a network is built. A backbone with a colon in its name is somebody's own: only the name is known."""

    backbone_name: str
    backbone_options: dict[str, Any]
    method: Method
    n_items: int
    window: int
    fingerprint: str

    @property
    def own_backbone(self) -> bool:
        """Whether the backbone is none of valuerec's."""
        return ":" in self.backbone_name


def read_config(path: Path) -> dict[str, Any]:
    """A `config.json` that `recipe_of` has no objection to.

    Raises:
        ValuerecError: where it is too large, unreadable or describes no model.
    """
    config = read_json(path, LARGEST_CONFIG)
    recipe_of(config, str(path))
    return dict(config)


def recipe_of(config: Any, where: str = "The configuration") -> Recipe:
    """What a configuration describes.

    Args:
        config: JSON; what is not about the model's shape is passed over.
        where: its place, for the error.

    Raises:
        ValuerecError: naming the field that is missing, of the wrong type or out of bounds.
    """
    found = checked(where, "", functools.partial(_Config.model_validate, config))
    method: Method = _made(where, "method", found.method.name, METHODS, found.method.model_extra or {})
    return Recipe(
        found.backbone.name,
        found.backbone.model_extra or {},
        method,
        found.dataset.items,
        found.training.window,
        found.dataset.fingerprint,
    )


def backbone_of(recipe: Recipe, where: str = "The configuration") -> Backbone:
    """The backbone that a recipe names.

    Raises:
        ValuerecError: where valuerec has none of that name, or it has other options.
    """
    backbone: Backbone = _made(where, "backbone", recipe.backbone_name, BACKBONES, recipe.backbone_options)
    return backbone


def _made(
    where: str, part: str, name: str, known: Mapping[str, Callable[..., _Kind]], options: Mapping[str, Any]
) -> _Kind:
    """A backbone's or a method's configuration, of options that are of the types its fields have."""
    if name not in known:
        raise ValuerecError(f"{where}, field {part}.name: there is no {part} named {name[:100]!r}; upgrade valuerec.")
    kind = known[name]
    types = _types(kind)
    for option, value in options.items():
        if option not in types:
            raise ValuerecError(f"{where}: the {part} {name} has no option {option[:100]!r}; upgrade valuerec.")
        checked(where, f"{part}.{option}", functools.partial(types[option].validate_python, value, strict=True))
    try:
        return kind(**options)
    except ValuerecError as error:
        sentence = " ".join(str(error).split())  # it quotes the value
        raise ValuerecError(f"{where}, field {part}: {sentence[:300]}; make it again.") from error


@functools.cache
def _types(kind: Any) -> dict[str, TypeAdapter[Any]]:
    """What the fields of a dataclass may be."""
    hints = get_type_hints(kind)
    return {
        field.name: TypeAdapter(Annotated[int, Field(le=MOST[field.name])] if field.name in MOST else hints[field.name])
        for field in dataclasses.fields(kind)
    }


_Answer = TypeVar("_Answer")


def checked(where: str, field: str, check: Callable[[], _Answer]) -> _Answer:
    """What a check by pydantic answers.

    Args:
        where: the file, for the error.
        field: what of it is checked; empty for all.
        check: raises pydantic's error.

    Raises:
        ValuerecError: naming the first field that is wrong.
    """
    try:
        return check()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(plain(str(part)[:100], one_line=True) for part in (field, *first["loc"]) if part != "")
        raise ValuerecError(f"{where}, field {place or 'all of it'}: {first['msg']}; make it again.") from error
