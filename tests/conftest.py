from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from valuerec.dataset import Dataset
from worlds import SHARED, random_sessions, write_dataset


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
