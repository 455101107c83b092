from __future__ import annotations

import numpy as np
import torch

from methods.test_losses import batch_of, network_of, rows_of
from valuerec.methods import VPQ
from valuerec.target import Target


def test_equation_3_of_known_numbers() -> None:
    weight = VPQ(penalty=20.0).weight(torch.tensor([0.0, 0.05, 0.45]))
    torch.testing.assert_close(weight, torch.tensor([1.0, 0.5, 0.1]))


def test_the_formula_of_the_fast_search_is_equation_2() -> None:
    mixture, spread = torch.randn(2, 100).abs().unbind(0)
    method = VPQ(penalty=7.0)
    torch.testing.assert_close(method.prunable(mixture, spread), method.target_score(mixture, spread))


def test_a_huge_penalty_regresses_on_the_immediate_reward() -> None:
    method = VPQ(penalty=1e9, heads=5)
    network, other = (network_of(method, "tiled", 0.7) for _ in range(2))
    batch = batch_of(rows_of(np.random.default_rng(0), 0.2))
    goal = method.goal(network, Target(other), batch, torch.full((5,), 0.2, dtype=torch.float64))
    torch.testing.assert_close(goal.y_B, batch.reward_B)
