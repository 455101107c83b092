"""How weights are learned: one file a method, each a configuration and its loss."""

from __future__ import annotations

import sys
from dataclasses import fields
from types import ModuleType
from typing import Any, Final

from valuerec.errors import UsageError
from valuerec.methods.base import Batch, CriticMethod, Losses, Method
from valuerec.methods.supervised import Supervised
from valuerec.methods.vpq import VPQ

METHODS: Final[dict[str, type[Method]]] = {method.name: method for method in (Supervised, VPQ)}


def method_named(name: str) -> type[Method]:
    """The configuration class of a method by its command-line name.

    Raises:
        UsageError: where there is none.
    """
    if name not in METHODS:
        raise UsageError(f"There is no method named {name!r}; choose one of: {', '.join(METHODS)}.")
    return METHODS[name]


def list_methods() -> list[dict[str, Any]]:
    """Every method with its first sentence, its source and its options with their defaults."""
    return [
        {
            "name": name,
            "summary": (method.__doc__ or "").strip().splitlines()[0],
            "source": method.source,
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
    "METHODS",
    "VPQ",
    "Batch",
    "CriticMethod",
    "Losses",
    "Method",
    "Supervised",
    "list_methods",
    "method_named",
]
