"""How weights are learned: one file a method, each a configuration and its loss."""

from __future__ import annotations

import sys
from dataclasses import fields
from types import ModuleType
from typing import Any, Final

from valuerec.errors import UsageError
from valuerec.methods.base import Batch, CriticMethod, Losses, Method
from valuerec.methods.cql import CQL
from valuerec.methods.immediate import Immediate
from valuerec.methods.minus import Minus
from valuerec.methods.rem import REM
from valuerec.methods.return_weighted import ReturnWeighted
from valuerec.methods.reward_weighted import RewardWeighted
from valuerec.methods.sac import SAC
from valuerec.methods.sarsa import SARSA
from valuerec.methods.shuffled import Shuffled
from valuerec.methods.supervised import Supervised
from valuerec.methods.uwac import UWAC
from valuerec.methods.vpq import VPQ

_ALL: Final[tuple[type[Method], ...]] = (
    *(Supervised, SAC, REM, Minus, CQL, UWAC, VPQ),  # Table 1
    *(RewardWeighted, ReturnWeighted, SARSA, Shuffled, Immediate),  # controls
)
METHODS: Final[dict[str, type[Method]]] = {method.name: method for method in _ALL}


def method_named(name: str) -> type[Method]:
    """The configuration class of a method by its command-line name.

    Raises:
        UsageError: where there is none.
    """
    if name not in METHODS:
        raise UsageError(f"There is no method named {name!r}; choose one of: {', '.join(METHODS)}.")
    return METHODS[name]


def list_methods() -> list[dict[str, Any]]:
    """Every method with its first sentence, its source, whether it is a control, and its options' defaults."""
    return [
        {
            "name": name,
            "summary": (method.__doc__ or "").strip().splitlines()[0],
            "source": method.source,
            "control": method.control,
            "options": {field.name: field.default for field in fields(method)},
        }
        for name, method in METHODS.items()
    ]


class _Callable(ModuleType):
    """Lets `valuerec.methods()` be the function that the command `valuerec methods` is named after."""

    def __call__(self) -> list[dict[str, Any]]:
        return list_methods()


sys.modules[__name__].__class__ = _Callable

__all__ = [
    "CQL",
    "METHODS",
    "REM",
    "SAC",
    "SARSA",
    "UWAC",
    "VPQ",
    "Batch",
    "CriticMethod",
    "Immediate",
    "Losses",
    "Method",
    "Minus",
    "ReturnWeighted",
    "RewardWeighted",
    "Shuffled",
    "Supervised",
    "list_methods",
    "method_named",
]
