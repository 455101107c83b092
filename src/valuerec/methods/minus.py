"""Minus: the uncertainty subtracted (p-sub), in the critic framework of equation 9.

    y = r + γ max_a ( Q(s',a) − λ · Unc(s',a) )          (1)

Q is the random mixture of K target heads, Unc their standard deviation (population), λ the penalty. Unlike p-mul it may
drive values below zero, where the floor of equation 9's weight (`floor`) comes in. Deviations: the frozen target as in
`vpq`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from valuerec import ops
from valuerec.methods.base import CriticMethod, check_ensemble, check_penalty


@dataclass(frozen=True, kw_only=True)
class Minus(CriticMethod):
    """Q-learning less a multiple of the ensemble's disagreement (p-sub).

    Args:
        penalty: λ of equation 1, c of the released code; 0 is REM.
    """

    penalty: float = 1.0

    name = "minus"
    source = "Value Penalized Q-Learning for Recommender Systems, SIGIR 2022, equation 1"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_penalty(self, "penalty")
        if self.penalty:
            check_ensemble(self)

    def target_score(self, mixture: Tensor, spread: Tensor) -> Tensor:
        """Equation 1: the unstable value less its penalty."""
        return mixture - self.penalty * spread

    @property
    def prunable(self) -> ops.Penalty:
        """Equation 1 for the fast search."""
        return ops.Penalty("p-sub", self.penalty)
