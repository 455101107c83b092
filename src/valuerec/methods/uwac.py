"""UWAC, uncertainty weighted actor-critic (Wu et al., ICML 2021), in the critic framework of equation 9.

    y = r + γ max_a Q(s',a) = r + γ Q(s',a*)
    L = ½ w(s',a*) ( y − Q(s,a) )² + CE(s,a) · stop_gradient( Q(s,a) · w(s,a) )
    w(s,a) = min( β / Var Q(s,a), clip )

Q is the random mixture of K heads, of the target at s'; Var is over its heads (population). On a session's last event
there is no s' and nothing to be uncertain of: w = clip. `form="released"` is what the paper's code has in its place:

    L = ½ ( y − Q(s,a) )² + CE(s,a) · stop_gradient( Q(s,a) · β / (SD Q(s,a) + .001) )

Deviations: heads in place of Monte Carlo dropout; the policy is the item head, trained by equation 9 as all methods'
here; the frozen target as in `vpq`; a floor at zero for the weight (`floor`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from valuerec.methods.base import Batch, MixtureMethod, check, check_ensemble, check_positive
from valuerec.target import View


@dataclass(frozen=True, kw_only=True)
class UWAC(MixtureMethod):
    """Uncertainty weighted actor-critic: rows count less where the heads disagree.

    Args:
        beta: β, the variance whose weight is 1.
        clip: the largest weight (the authors' code: 1.5); without effect on `form="released"`.
        form: "original", or "released" as in the code of VPQ's paper.
    """

    beta: float = 1.0
    clip: float = 1.5
    form: str = "original"

    name = "uwac"
    source = "Wu et al., Uncertainty Weighted Actor-Critic for Offline Reinforcement Learning, ICML 2021"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "beta")
        check_positive(self, "clip")
        check_ensemble(self)
        check(self, "form", self.form in ("original", "released"), "original or released")

    def weight(self, q_BK: Tensor) -> Tensor:
        """W of each row, of its K heads' values."""
        if self.form == "released":
            return self.beta / (q_BK.std(dim=1, correction=0) + 0.001)
        return (self.beta / q_BK.var(dim=1, correction=0)).clamp(max=self.clip)

    def importance(self, value_B: Tensor, q_BK: Tensor) -> Tensor:
        """Q(s,a) · w(s,a)."""
        return value_B * self.weight(q_BK)

    def confidence(self, view: View | None, item_R: Tensor, live_R: Tensor, batch: Batch) -> Tensor | None:
        """W(s',a*); nothing in the released form."""
        if self.form == "released":
            return None
        weight_B = torch.full_like(batch.reward_B, self.clip)
        if view is not None:
            weight_B[live_R] = self.weight(view.of(item_R))
        return weight_B
