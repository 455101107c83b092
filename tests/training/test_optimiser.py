from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from valuerec.backbones import SASRec
from valuerec.network import Network
from valuerec.training.optimiser import BETAS, EPSILON, Optimiser, RowAdam, tables_of


def sparse(rows: dict[int, list[float]], n_rows: int, width: int) -> torch.Tensor:
    index = torch.tensor([list(rows)], dtype=torch.int64).reshape(1, -1)
    return torch.sparse_coo_tensor(index, torch.tensor(list(rows.values())).reshape(-1, width), (n_rows, width))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.integers(0, 3), st.floats(-5, 5, width=32), min_size=1), min_size=1, max_size=12))
def test_it_equals_a_float64_oracle(steps: list[dict[int, float]]) -> None:
    table = nn.Parameter(torch.zeros(4, 1))
    optimiser = RowAdam([table], lr=0.1)
    weight, moment = np.zeros(4), np.zeros(4)
    for number, gradients in enumerate(steps, start=1):
        table.grad = sparse({row: [value] for row, value in gradients.items()}, 4, 1)
        optimiser.step()
        moment *= BETAS[1]  # every row forgets at every step: the oracle is dense
        for row, value in gradients.items():
            moment[row] += (1 - BETAS[1]) * value**2
            weight[row] -= 0.1 * value / (np.sqrt(moment[row] / (1 - BETAS[1] ** number)) + EPSILON)
    np.testing.assert_allclose(table.detach().numpy()[:, 0], weight, rtol=1e-4, atol=1e-5)


def test_a_rare_row_moves_as_far_as_in_dense_adam_and_ten_times_as_far_as_in_sparse_adam() -> None:
    def moved(optimiser: torch.optim.Optimizer, table: nn.Parameter, rows: bool) -> float:
        for number in range(2200):
            value = 0.3 if number == 2000 else 0.0
            if rows:
                table.grad = sparse({1: [0.0], **({0: [value]} if value else {})}, 2, 1)
            else:
                table.grad = torch.tensor([[value], [0.0]])
            optimiser.step()
        return -float(table[0])

    tables = [nn.Parameter(torch.zeros(2, 1)) for _ in range(3)]
    dense = moved(torch.optim.Adam([tables[0]], lr=1e-3), tables[0], rows=False)
    assert moved(RowAdam([tables[1]], lr=1e-3), tables[1], rows=True) == pytest.approx(dense, rel=0.02)
    assert moved(torch.optim.SparseAdam([tables[2]], lr=1e-3), tables[2], rows=True) == pytest.approx(
        dense / 10, rel=0.05
    )


def test_the_tables_are_the_item_embedding_and_the_heads_and_nothing_else_is_touched_row_by_row() -> None:
    network = Network(SASRec(width=8), 20, 4, 3)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert {names[id(table)] for table in tables_of(network)} == {
        "backbone.item.weight",
        "q_head.weight",
        "q_head.bias_NK",
    }
    before = {name: value.clone() for name, value in network.state_dict().items()}
    items_BL, action_B = torch.tensor([[3, 5, 20, 20]], dtype=torch.int32), torch.tensor([7])
    state_BD = network.state(items_BL, torch.tensor([2], dtype=torch.int32))
    assert network.q_head is not None
    loss = network.q_head.of(state_BD, action_B).sum() + network.item_head(state_BD)[0, 1]
    Optimiser(network, 0.1).step(loss)
    after = network.state_dict()
    moved = (before["backbone.item.weight"] != after["backbone.item.weight"]).any(dim=1).nonzero().flatten()
    assert set(moved.tolist()) == {3, 5}
    for name in ("q_head.weight", "q_head.bias_NK"):
        assert (before[name] != after[name]).any(dim=1).nonzero().flatten().tolist() == [7]
