"""REM, the random ensemble mixture (Agarwal et al., ICML 2020), in the critic framework of equation 9.

    y = r + γ max_a Σ_k α_k Q_T,k(s',a),     α ~ U(0,1)^K, normalised, one draw a batch
    L = ½ ( y − Σ_k α_k Q_k(s,a) )² + CE(s,a) · stop_gradient(Q(s,a))

VPQ with λ = 0. Deviations: ½ of the square in place of the Huber loss, as in the paper's Algorithm 1; the frozen target
as in `vpq`; the weight of equation 9 has a floor at zero (`floor`).
"""

from __future__ import annotations

from dataclasses import dataclass

from valuerec.methods.base import MixtureMethod


@dataclass(frozen=True, kw_only=True)
class REM(MixtureMethod):
    """Q-learning on random mixtures of an ensemble (REM)."""

    name = "rem"
    source = "Agarwal, Schuurmans & Norouzi, An Optimistic Perspective on Offline RL, ICML 2020"
