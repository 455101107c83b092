from __future__ import annotations

import numpy as np
import pytest
import torch

import valuerec as vr
from valuerec.dataset import Dataset
from valuerec.experiments.histograms import BINS, value_histograms


def test_histograms_are_of_the_heads_on_the_logged_actions(small: Dataset) -> None:
    network = vr.VPQ(heads=4).network(vr.SASRec(width=8), small.n_items, 10).eval()
    assert network.q_head is not None
    torch.nn.init.normal_(network.q_head.weight, std=0.5)  # type: ignore[arg-type]
    found = value_histograms(network, small, penalty=3.0)
    assert found is not None
    events = small.events_of("validation")
    rows = small.transitions(np.arange(events.start, events.stop), 10)
    with torch.no_grad():
        state_ED = network.state(torch.from_numpy(rows.state_BL), torch.from_numpy(rows.length_B))
    weight_NKD, bias_NK = (each.detach().numpy().astype(np.float64) for each in network.q_head.whole())
    q_EK = np.einsum("ekd,ed->ek", weight_NKD[rows.action_B], state_ED.numpy()) + bias_NK[rows.action_B]
    spread_E = q_EK.std(axis=1)
    expected = {"value": q_EK.mean(axis=1), "spread": spread_E, "weight": 1 / (1 + 3 * spread_E)}
    for name, value_E in expected.items():
        assert found[name]["mean"] == pytest.approx(value_E.mean(), abs=1e-5)
        assert sum(found[name]["counts"]) == len(events) and len(found[name]["counts"]) == BINS
        low, high = np.quantile(value_E, (0.001, 0.999))
        assert (found[name]["low"], found[name]["high"]) == (
            pytest.approx(low, abs=1e-4),
            pytest.approx(high, abs=1e-4),
        )


def test_without_a_penalty_there_is_no_weight_and_without_a_critic_nothing(small: Dataset) -> None:
    critic = vr.REM(heads=2).network(vr.SASRec(width=8), small.n_items, 10)
    assert set(value_histograms(critic, small, None) or {}) == {"value", "spread"}
    assert value_histograms(vr.Supervised().network(vr.SASRec(width=8), small.n_items, 10), small, None) is None


def test_values_that_are_all_alike_have_a_histogram(small: Dataset) -> None:
    critic = vr.SAC().network(vr.SASRec(width=8), small.n_items, 10)  # one head: no spread
    found = value_histograms(critic, small, None)
    assert found is not None and sum(found["spread"]["counts"]) == len(small.events_of("validation"))
