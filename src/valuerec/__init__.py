"""valuerec: recommenders that pay off over time.

    import valuerec as vr

    data = vr.prepare(["yoochoose-clicks.dat", "yoochoose-buys.dat"], format="yoochoose", out="data/yc")
    run = vr.train(data, backbone=vr.SASRec(), method=vr.VPQ(penalty=20.0), out="runs/vpq")
    model = vr.load(run)
    model.recommend([["214837485", "214820942"]], k=20)

Names are imported when they are first used, so that `import valuerec` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from valuerec.errors import UsageError, ValuerecError

if TYPE_CHECKING:
    from valuerec import methods as methods
    from valuerec.backbones import Caser, GRU4Rec, NextItNet, SASRec
    from valuerec.dataset import Dataset, Rewards
    from valuerec.experiments.reproducing import reproduce
    from valuerec.methods import (
        CQL,
        REM,
        SAC,
        SARSA,
        UWAC,
        VPQ,
        Immediate,
        Minus,
        ReturnWeighted,
        RewardWeighted,
        Shuffled,
        Supervised,
    )
    from valuerec.model import Model, load
    from valuerec.showcase import demo
    from valuerec.stages import evaluate, export, info, plan, prepare, recommend, serve, train

__version__ = "0.1.0"

_HOMES = {
    "CQL": "methods",
    "Caser": "backbones",
    "Dataset": "dataset",
    "GRU4Rec": "backbones",
    "Immediate": "methods",
    "Minus": "methods",
    "Model": "model",
    "NextItNet": "backbones",
    "REM": "methods",
    "ReturnWeighted": "methods",
    "RewardWeighted": "methods",
    "Rewards": "dataset",
    "SAC": "methods",
    "SARSA": "methods",
    "SASRec": "backbones",
    "Shuffled": "methods",
    "Supervised": "methods",
    "UWAC": "methods",
    "VPQ": "methods",
    "demo": "showcase",
    "evaluate": "stages",
    "export": "stages",
    "info": "stages",
    "load": "model",
    "plan": "stages",
    "prepare": "stages",
    "recommend": "stages",
    "reproduce": "experiments.reproducing",
    "serve": "stages",
    "train": "stages",
}

__all__ = [
    "CQL",
    "REM",
    "SAC",
    "SARSA",
    "UWAC",
    "VPQ",
    "Caser",
    "Dataset",
    "GRU4Rec",
    "Immediate",
    "Minus",
    "Model",
    "NextItNet",
    "ReturnWeighted",
    "RewardWeighted",
    "Rewards",
    "SASRec",
    "Shuffled",
    "Supervised",
    "UsageError",
    "ValuerecError",
    "__version__",
    "demo",
    "evaluate",
    "export",
    "info",
    "load",
    "methods",
    "plan",
    "prepare",
    "recommend",
    "reproduce",
    "serve",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "methods":  # a package that is also the function of that name
        return importlib.import_module("valuerec.methods")
    if name not in _HOMES:
        raise AttributeError(f"module 'valuerec' has no attribute {name!r}")
    return getattr(importlib.import_module(f"valuerec.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
