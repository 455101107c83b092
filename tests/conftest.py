from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from valuerec.dataset import Dataset
from worlds import SHARED, random_sessions, write_dataset


def pytest_configure() -> None:
    """One thread for each of pytest-xdist's processes and for what they start: more would wait for each other."""
    if "PYTEST_XDIST_WORKER" in os.environ and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """300 sessions over 30 items."""
    draw = np.random.default_rng(0)
    splits = {"train": 240, "validation": 30, "test": 30}
    sessions = {split: random_sessions(draw, count, 30) for split, count in splits.items()}
    return write_dataset(tmp_path_factory.mktemp("small") / "data", sessions, 30)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real logs, which are not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip("the real logs (../shared/data) are not here; what they would show is not tested")
    return SHARED
