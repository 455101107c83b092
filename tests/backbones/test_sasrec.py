from __future__ import annotations

import pytest
import torch

from valuerec.backbones import SASRec


def test_the_state_is_as_wide_as_the_items() -> None:
    encoder = SASRec(width=6)(11, 5)
    assert encoder(torch.randint(0, 11, (4, 5)), torch.tensor([1, 2, 5, 5])).shape == (4, 6)


def test_weights_start_as_glorot_says() -> None:
    encoder = SASRec()(20, 10)
    for layer in (encoder.query, encoder.key, encoder.value, encoder.feed, encoder.forth):
        assert 0.9 * (6 / 128) ** 0.5 < layer.weight.abs().max().item() <= (6 / 128) ** 0.5
        assert layer.bias.abs().max() == 0
    assert encoder.position.std().item() == pytest.approx(0.01, rel=0.1)
    assert encoder.position.mean().item() == pytest.approx(0, abs=0.001)


def test_the_vectors_of_later_positions_do_not_reach_a_history() -> None:
    encoder = SASRec(width=6)(11, 5).eval()
    items_BL, length_B = torch.tensor([[3, 7, 11, 11, 11]]), torch.tensor([2])
    before = encoder(items_BL, length_B)
    with torch.no_grad():
        encoder.position[2:] += 5
    assert torch.equal(encoder(items_BL, length_B), before)
