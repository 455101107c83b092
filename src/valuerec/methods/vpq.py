"""Value Penalized Q-Learning (VPQ; SIGIR 2022), Algorithm 1 in the critic framework of equation 9.

    y = r + γ max_a ( Q(s',a) · W(s',a) )          (2)
    W(s',a) = 1 / (1 + λ · Unc(s',a))              (3)
    L_φ = CE(s,a) · stop_gradient(Q(s,a))          (9)

Q is the random mixture of K target heads, Unc their standard deviation (population), λ the penalty.
Deviations, each measured or forced by a gap in the paper: Algorithm 1 says sample standard deviation, and the
released code has the population's (.97 of it at K = 15); the frozen target is a copy taken every `target_every`
steps and encodes s' without dropout; the weight of equation 9 has a floor at zero (`floor`).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from valuerec import ops
from valuerec.methods.base import CriticMethod, check_ensemble, check_penalty


@dataclass(frozen=True, kw_only=True)
class VPQ(CriticMethod):
    """Value Penalized Q-Learning.

    Args:
        penalty: λ of equation 3; 0 is REM, a very large one regresses on the immediate reward (paper: 20).
    """

    penalty: float = 20.0

    name = "vpq"
    source = "Value Penalized Q-Learning for Recommender Systems, SIGIR 2022, Algorithm 1, equations 2, 3 and 9"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_penalty(self, "penalty")
        if self.penalty:
            check_ensemble(self)

    @property
    def needs_rewards_from_zero(self) -> bool:
        """Yes: a weight below 1 raises a negative value, most where the heads disagree most (section 2.1.3)."""
        return self.penalty > 0 and self.n_heads > 0

    def target_score(self, mixture: Tensor, spread: Tensor) -> Tensor:
        """Equation 2: the unstable value times its weight."""
        return mixture * self.weight(spread)

    @property
    def prunable(self) -> ops.Penalty:
        """Equation 2 for the fast search."""
        return ops.Penalty("p-mul", self.penalty)

    def weight(self, spread: Tensor) -> Tensor:
        """Equation 3: W, 1 where the heads agree, towards 0 as they part."""
        return 1 / (1 + self.penalty * spread)
