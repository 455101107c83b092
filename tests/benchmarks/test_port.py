from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from port import Complete, ReleasedStep, needed_bytes
from valuerec.backbones import SASRec
from valuerec.methods import VPQ, Batch
from valuerec.network import Network
from valuerec.target import Target

N_ITEMS, WINDOW, ROWS, HEADS = 9, 4, 12, 5
STEP = Path(__file__).parents[2] / "benchmarks" / "step.py"


def batch_of() -> Batch:
    return Batch(
        state_BL=torch.randint(0, N_ITEMS, (ROWS, WINDOW), dtype=torch.int32),
        length_B=torch.full((ROWS,), WINDOW, dtype=torch.int32),
        action_B=torch.randint(0, N_ITEMS, (ROWS,)),
        reward_B=torch.where(torch.rand(ROWS) < 0.3, 1.0, 0.2),
        next_state_BL=torch.randint(0, N_ITEMS, (ROWS, WINDOW), dtype=torch.int32),
        next_length_B=torch.full((ROWS,), WINDOW, dtype=torch.int32),
        done_B=torch.rand(ROWS) < 0.3,
    )


def released(lean: bool, dropout: float = 0.0) -> ReleasedStep:
    step = ReleasedStep(
        N_ITEMS, WINDOW, ROWS, n_heads=HEADS, backbone=SASRec(width=8, dropout=dropout), lean=lean
    )  # fmt: skip
    for network in step.networks:
        with torch.no_grad():  # values as of a trained network: positive, heads apart
            network.q_bias_KN.uniform_(0, 1)
            network.q_weight_KND.mul_(5)
            network.item_head.bias.normal_()
    return step


def numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


@pytest.mark.parametrize("lean", [False, True])
def test_target_and_loss_equal_a_float64_oracle_of_the_released_step(lean: bool) -> None:
    step, batch = released(lean), batch_of()
    main, other = step.networks
    alpha = np.array([0.1, 0.3, 0.05, 0.35, 0.2])
    outcome = step.outcome(main, other, batch, torch.tensor(alpha, dtype=torch.float32))

    def q_of_all(network: Complete, state_D: np.ndarray) -> np.ndarray:
        weight_KND, bias_KN = numbers(network.q_weight_KND), numbers(network.q_bias_KN)
        return np.array([[weight_KND[k, a] @ state_D + bias_KN[k, a] for a in range(N_ITEMS)] for k in range(HEADS)])

    states = numbers(main.backbone(batch.state_BL, batch.length_B))
    next_of_main, next_of_other = (
        numbers(network.backbone(batch.next_state_BL, batch.next_length_B)) for network in (main, other)
    )
    y, losses, selected = np.zeros(ROWS), np.zeros(ROWS), []
    for b in range(ROWS):
        selector_KN, target_KN = q_of_all(main, next_of_main[b]), q_of_all(other, next_of_other[b])
        chosen = int(np.argmax(selector_KN.mean(axis=0) / (1 + 20 * selector_KN.std(axis=0))))
        evaluated = (alpha @ target_KN) / (1 + 20 * target_KN.std(axis=0))
        selected.append((chosen, int(np.argmax(evaluated))))
        y[b] = float(batch.reward_B[b]) + (0.0 if batch.done_B[b] else 0.5 * evaluated[chosen])
        action = int(batch.action_B[b])
        value = alpha @ q_of_all(main, states[b])[:, action]
        logits = numbers(main.item_head.weight) @ states[b] + numbers(main.item_head.bias)
        losses[b] = 0.5 * (y[b] - value) ** 2 + value * (np.log(np.exp(logits).sum()) - logits[action])
    assert any(chosen != best for chosen, best in selected)  # the two networks disagree, so double Q shows
    np.testing.assert_allclose(numbers(outcome.y_B), y, rtol=1e-5)
    assert outcome.loss.item() == pytest.approx(losses.mean(), rel=1e-5)


@pytest.mark.parametrize("lean", [False, True])
def test_of_two_equal_networks_and_even_weights_it_is_our_vpq(lean: bool) -> None:
    class Even(VPQ):
        def mixture(self, like: Tensor) -> Tensor:
            return like.new_full((self.heads,), 1 / self.heads)

    network = Network(SASRec(width=8, dropout=0.0), N_ITEMS, WINDOW, HEADS)
    assert network.q_head is not None
    step, batch = released(lean), batch_of()
    with torch.no_grad():
        network.q_head.weight.mul_(5)
        network.q_head.bias_NK.uniform_(-0.2, 1)
        network.item_head.bias_N.normal_()
    for own in step.networks:
        own.copy_from(network)
    main, other = step.networks
    alpha_K = torch.full((HEADS,), 1 / HEADS)
    outcome = step.outcome(main, other, batch, alpha_K)
    losses = Even(heads=HEADS, discount=0.5, penalty=20.0, floor=None).losses(network, Target(network), batch)
    torch.testing.assert_close(outcome.loss, losses.total)
    torch.testing.assert_close(outcome.y_B.mean(), losses.parts["target"])
    outcome.loss.backward()  # type: ignore[no-untyped-call]
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in other.parameters())
    for name, parameter in main.backbone.named_parameters():
        gradient = network.backbone.get_parameter(name).grad
        assert gradient is not None and parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient.to_dense())


def test_a_step_trains_one_network_and_a_coin_picks_which() -> None:
    step = released(lean=False, dropout=0.5)
    trained = []
    for _ in range(20):
        before = [network.q_weight_KND.detach().clone() for network in step.networks]
        step(batch_of())
        changed = [not torch.equal(before[i], step.networks[i].q_weight_KND) for i in (0, 1)]
        assert sum(changed) == 1
        trained.append(changed.index(True))
    assert set(trained) == {0, 1}
    batch = batch_of()
    once, again = (step.networks[0].backbone(batch.state_BL, batch.length_B) for _ in range(2))
    assert not torch.equal(once, again)  # dropout is on


def test_needed_bytes_is_about_what_the_released_step_takes() -> None:
    assert 1.5e9 < needed_bytes(26_702) < 2.5e9  # a port of 1.9 GB, ../shared/design.md
    assert needed_bytes(1_000_000) > 24e9 and needed_bytes(1_000_000, lean=True) > 24e9


@pytest.mark.slow
def test_the_benchmark_prints_one_json_object_a_catalogue_size() -> None:
    command = [
        sys.executable,
        str(STEP),
        "--items",
        "300",
        "--warm",
        "3",
        "--steps",
        "2",
        "--port-steps",
        "1",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = ("port", "port_lean", "textbook", "textbook_fused", "supervised", "vpq")
    assert row["items"] == 300 and row["weights"] == "trained" and row["threads"] >= 1 and "commit" in row
    for figures in (row, row["fresh"]):
        assert all(figures[f"{kind}_s"] > 0 and figures[f"{kind}_peak_gb"] > 0 for kind in kinds)
        for ratio in ("vpq_over_textbook", "port_over_vpq", "supervised_over_textbook", "vpq_over_supervised"):
            above, below = ratio.split("_over_")
            assert figures[ratio] == pytest.approx(figures[f"{above}_s"] / figures[f"{below}_s"])
