from __future__ import annotations

import torch

from valuerec.backbones import GRU4Rec


def test_the_state_is_as_wide_as_the_items() -> None:
    encoder = GRU4Rec(width=6)(11, 5)
    assert encoder(torch.randint(0, 11, (4, 5)), torch.tensor([1, 2, 5, 5])).shape == (4, 6)


def test_an_empty_history_is_an_item_of_its_own() -> None:
    encoder = GRU4Rec(width=6)(11, 3)
    empty = torch.tensor([[11, 11, 11]]), torch.tensor([1])
    encoder(*empty).sum().backward()
    gradient = encoder.item.weight.grad
    assert gradient is not None and gradient.coalesce().indices().tolist() == [[11]]
    assert gradient.coalesce().values().abs().min() > 0
