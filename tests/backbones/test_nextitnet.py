from __future__ import annotations

import torch

from valuerec.backbones import NextItNet


def test_the_state_is_as_wide_as_the_items() -> None:
    encoder = NextItNet(width=6)(11, 5)
    assert encoder(torch.randint(0, 11, (4, 5)), torch.tensor([1, 2, 5, 5])).shape == (4, 6)


def test_weights_start_as_the_released_code_has_them() -> None:
    encoder = NextItNet()(20, 10)
    weights = torch.stack([layer.taps.weight for block in encoder.blocks for layer in (block.first, block.second)])
    assert weights.shape == (12, 64, 192)
    assert 0.039 < weights.abs().max().item() <= 0.04 and abs(weights.std().item() - 0.02 * 0.88) < 2e-4
    assert all(layer.taps.bias.abs().max() == 0 for block in encoder.blocks for layer in (block.first, block.second))


def test_it_sees_54_items_back_and_no_further() -> None:
    """Each block reaches 2·d + 2·2d = 6d back; six blocks of d = 1, 2, 1, 2, 1, 2 reach 54."""
    encoder = NextItNet(width=6)(100, 60).double()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    items_BL = torch.arange(60).repeat(3, 1)
    items_BL[1, 59 - 54], items_BL[2, 59 - 55] = 99, 99
    whole_D, near_D, far_D = encoder(items_BL, torch.full((3,), 60))
    assert not torch.equal(whole_D, near_D) and torch.equal(whole_D, far_D)


def test_the_state_of_an_empty_history_is_zero() -> None:
    encoder = NextItNet(width=6)(11, 3)
    torch.nn.init.normal_(encoder.blocks[5].second.norm.bias)
    assert torch.equal(encoder(torch.tensor([[11, 11, 11]]), torch.tensor([1])), torch.zeros(1, 6))
