"""A plain PyTorch port of the released two-network VPQ step (protocol: "A released-code VPQ step"), written well.

    loss = mean[ ½ (y − Q)² + stop_gradient(Q) · CE ]         Q = Σ_k α_k Q_k(s, a)
    y = r + γ Q_other(s', argmax_a Q_main(s', a))             y = r where the session ends

Two complete networks; a coin picks which is trained ("main") and which is the target ("other"). Q_main(s', ·) is the
mean of the heads and Q_other that with α, both divided by 1 + λ · SD over heads; dropout is on everywhere.

It does the released step's work, all K heads of all N items three times (main at s, with its gradient, main at s',
other at s'), and does it with care: heads first, so that what runs over heads runs over whole planes of memory; one
buffer B×K×N for both networks at s', used again every step; in place where autograd allows; only the chosen item's
heads penalised; fused Adam. `lean` leaves out what the step computes and does not use: of Q(s, ·) it scores the logged
items alone, of Q_other(s', ·) the selected ones. The result is the same, and it is what a careful reader would do
next, so the benchmark shows it as well.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from textbook import dense
from valuerec.backbones import SASRec
from valuerec.methods import Batch
from valuerec.network import Network


class Complete(nn.Module):
    """One of the two networks: backbone, item head and Q ensemble."""

    def __init__(self, n_items: int, window: int, n_heads: int, backbone: SASRec) -> None:
        super().__init__()
        width = backbone.width
        self.backbone = dense(backbone(n_items, window))
        self.item_head = nn.Linear(width, n_items)
        nn.init.xavier_uniform_(self.item_head.weight)
        nn.init.zeros_(self.item_head.bias)
        bound = math.sqrt(6 / (width + n_items * n_heads))
        self.q_weight_KND = nn.Parameter(torch.empty(n_heads, n_items, width).uniform_(-bound, bound))
        self.q_bias_KN = nn.Parameter(torch.zeros(n_heads, n_items))

    def q_of_all(self, state_BD: Tensor, out: Tensor | None = None) -> Tensor:
        """Every head's value of every item, B×K×N; into `out` where it is given (then without gradient)."""
        weight_DR = self.q_weight_KND.flatten(0, 1).t()
        q_BR = torch.addmm(self.q_bias_KN.flatten(), state_BD, weight_DR, out=out)
        return q_BR.view(len(state_BD), *self.q_bias_KN.shape)

    def q_of(self, state_BD: Tensor, item_B: Tensor) -> Tensor:
        """Every head's value of one item a row, B×K."""
        return torch.einsum("kbd,bd->bk", self.q_weight_KND[:, item_B], state_BD) + self.q_bias_KN[:, item_B].t()

    @torch.no_grad()
    def copy_from(self, network: Network) -> None:
        """Take over the weights of one of ours."""
        assert network.q_head is not None
        self.backbone.load_state_dict(network.backbone.state_dict())
        self.item_head.weight.copy_(network.item_head.weight_ND)
        self.item_head.bias.copy_(network.item_head.bias_N)
        weight_NKD, bias_NK = network.q_head.whole()
        self.q_weight_KND.copy_(weight_NKD.transpose(0, 1))
        self.q_bias_KN.copy_(bias_NK.t())


class Outcome(NamedTuple):
    """A batch's loss, and the value that its critic is drawn to."""

    loss: Tensor
    y_B: Tensor


class ReleasedStep:
    """The released step with its defaults: call it with a batch to train one of its two networks.

    Args:
        n_items: N.
        window: L.
        batch_size: B; the buffer has room for so many rows.
        lean: leave out what is computed and not used.
        device: where to compute.
    """

    def __init__(
        self,
        n_items: int,
        window: int = 10,
        batch_size: int = 256,
        *,
        n_heads: int = 15,
        penalty: float = 20.0,
        discount: float = 0.5,
        learning_rate: float = 0.005,
        backbone: SASRec | None = None,
        lean: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.n_heads, self.penalty, self.discount, self.lean = n_heads, penalty, discount, lean
        self.networks = [Complete(n_items, window, n_heads, backbone or SASRec()).to(device).train() for _ in range(2)]
        self.optimisers = [
            torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True) for network in self.networks
        ]
        self._coin = random.Random(0)
        self._workspace = torch.empty(batch_size, n_heads * n_items, device=device)

    def __call__(self, batch: Batch) -> Outcome:
        """Toss the coin, draw α and take one step."""
        picked = self._coin.getrandbits(1)
        main, other, optimiser = self.networks[picked], self.networks[1 - picked], self.optimisers[picked]
        alpha_K = torch.rand(self.n_heads, device=self._workspace.device)
        outcome = self.outcome(main, other, batch, alpha_K.div_(alpha_K.sum()))
        optimiser.zero_grad()
        outcome.loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return outcome

    def outcome(self, main: Complete, other: Complete, batch: Batch, alpha_K: Tensor) -> Outcome:
        """The loss of `main` on a batch, with `other` as its target."""
        y_B = self.target(main, other, batch, alpha_K)
        state_BD = main.backbone(batch.state_BL, batch.length_B)
        if self.lean:
            q_BK = main.q_of(state_BD, batch.action_B)
        else:
            q_BK = main.q_of_all(state_BD)[_rows(batch.action_B), :, batch.action_B]
        value_B = q_BK @ alpha_K
        cross_entropy_B = functional.cross_entropy(main.item_head(state_BD), batch.action_B, reduction="none")
        loss_B = 0.5 * (y_B - value_B).square() + value_B.detach() * cross_entropy_B
        return Outcome(loss_B.mean(), y_B)

    @torch.no_grad()
    def target(self, main: Complete, other: Complete, batch: Batch, alpha_K: Tensor) -> Tensor:
        """`y`: main selects with every head alike, other evaluates with α; both penalised."""
        next_BL, length_B = batch.next_state_BL, batch.next_length_B
        workspace = self._workspace[: len(next_BL)]
        q_BKN = main.q_of_all(main.backbone(next_BL, length_B), out=workspace)
        mean_BN = q_BKN.mean(dim=1)
        spread_BN = q_BKN.sub_(mean_BN.unsqueeze(1)).square_().mean(dim=1).sqrt_()
        selected_B = mean_BN.div_(spread_BN.mul_(self.penalty).add_(1)).argmax(dim=1)
        state_BD = other.backbone(next_BL, length_B)
        if self.lean:
            q_BK = other.q_of(state_BD, selected_B)
        else:
            q_BK = other.q_of_all(state_BD, out=workspace)[_rows(selected_B), :, selected_B]
        best_B = (q_BK @ alpha_K) / (1 + self.penalty * q_BK.std(dim=1, correction=0))
        return batch.reward_B + self.discount * best_B.masked_fill_(batch.done_B, 0.0)


def needed_bytes(n_items: int, batch_size: int = 256, n_heads: int = 15, width: int = 64, lean: bool = False) -> int:
    """What the large tensors of a step take while most of them are alive.

    Two networks with their Adam moments and one gradient; B×K×N numbers (three times with a gradient at s); B×N logits
    with what their gradient takes.
    """
    parameters = n_items * ((n_heads + 1) * (width + 1) + width)
    return 4 * (
        (2 + 4 + 1) * parameters + (1 if lean else 3) * batch_size * n_heads * n_items + 3 * batch_size * n_items
    )


def _rows(like_B: Tensor) -> Tensor:
    return torch.arange(len(like_B), device=like_B.device)
