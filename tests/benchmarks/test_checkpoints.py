from __future__ import annotations

import os
from pathlib import Path

import pytest

import checkpoints


def test_writing_a_checkpoint_takes_less_memory_than_the_model(tmp_path: Path) -> None:
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak of memory can't be reset here; what writing a checkpoint takes is not tested")
    figures = checkpoints.measure(4000, 5.0, tmp_path, n_steps=2)
    assert figures["checkpoint_bytes"] > 3 * figures["model_bytes"]  # target, moments and the best weights too
    assert figures["extra_memory_in_models"] <= 1
