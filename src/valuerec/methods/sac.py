"""SAC, the self-supervised actor-critic (Xin et al., SIGIR 2020): one Q-head, double Q-learning.

    y = r + γ Q_T(s', argmax_a Q(s',a))                    with `double` False: r + γ max_a Q_T(s',a)
    L = ½ ( y − Q(s,a) )² + CE(s,a) · stop_gradient(Q(s,a))

No soft actor-critic. Their code trains without the weight for its first 15,000 to 30,000 steps: `warm_up`.
Deviations: under the protocol `ours` the trained network chooses and a frozen copy judges, both without dropout, where
their code swaps two networks by a coin (the protocol `released`); ½ of the square; the weight has a floor at zero
(`floor`), without which runs are known to collapse.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from valuerec import ops
from valuerec.methods.base import Batch, MixtureMethod, check
from valuerec.target import View


@dataclass(frozen=True, kw_only=True)
class SAC(MixtureMethod):
    """Self-supervised actor-critic: one Q-head, double Q-learning.

    Args:
        double: whether the trained network chooses the item that the target judges (double Q-learning).
    """

    heads: int = 1
    double: bool = True

    name = "sac"
    source = "Xin et al., Self-Supervised Reinforcement Learning for Recommender Systems, SIGIR 2020"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "heads", self.heads == 1, "1 (rem has more)")

    def next_value(self, view: View, batch: Batch, live_R: Tensor, mixture_K: Tensor) -> ops.Best:
        """Q_T of the item that the trained network likes best; of its own best item, where not `double`."""
        return view.best(mixture_K, self.target_score, self.prunable, double=self.double)
