from __future__ import annotations

from pathlib import Path

import pytest

import valuerec as vr
from valuerec.dataset import Dataset


@pytest.fixture(scope="session")
def runs(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("served")
    methods = {"supervised": vr.Supervised(), "vpq": vr.VPQ(heads=4), "by-values": vr.VPQ(heads=4, recommend="values")}
    for name, method in methods.items():
        vr.train(small, out=folder / name, method=method, epochs=2, quiet=True, backbone=vr.SASRec(width=8))
    return {name: folder / name for name in methods}
