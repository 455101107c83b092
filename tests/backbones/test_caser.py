from __future__ import annotations

import pytest
import torch

from valuerec.backbones import Caser


@pytest.mark.parametrize(("width", "window", "state"), [(64, 10, 112), (6, 1, 54), (6, 3, 54), (5, 40, 53)])
def test_the_state_is_48_wider_than_the_items_in_any_window(width: int, window: int, state: int) -> None:
    encoder = Caser(width=width)(11, window)
    assert encoder(torch.randint(0, 11, (3, window)), torch.full((3,), window)).shape == (3, state)


def test_filters_start_as_the_released_code_has_them() -> None:
    encoder = Caser()(20, 200)
    for filters in (encoder.rows, encoder.vertical_L):
        assert 0.19 < filters.abs().max().item() <= 0.2 and abs(filters.std().item() - 0.088) < 0.01
    assert encoder.rows.shape == (9 * 16, 64)
    assert encoder.horizontal_bias.tolist() == pytest.approx(
        [0.1] * 48
    ) and encoder.vertical_bias.item() == pytest.approx(0.1)


def test_a_low_window_answers_what_the_same_history_does_in_a_window_of_four() -> None:
    """Rows of zeros below a short window are what stands below a short history anyway."""
    low, tall = Caser(width=6)(11, 2).eval(), Caser(width=6)(11, 4).eval()
    weights = low.state_dict()
    weights["vertical_L"] = torch.cat([weights["vertical_L"], torch.zeros(2)])
    tall.load_state_dict(weights)
    state_BD = low(torch.tensor([[3, 7], [3, 11]]), torch.tensor([2, 1]))
    torch.testing.assert_close(tall(torch.tensor([[3, 7, 11, 11], [3, 11, 11, 11]]), torch.tensor([2, 1])), state_BD)
