from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from valuerec.backbones import SASRec
from valuerec.errors import UsageError

ITEMS, WINDOW, WIDTH = 11, 5, 6


def built(dropout: float = 0.0) -> torch.nn.Module:
    encoder = SASRec(width=WIDTH, dropout=dropout)(ITEMS, WINDOW)
    for parameter in encoder.parameters():  # away from zeros and ones, so that every term counts
        torch.nn.init.normal_(parameter, std=0.7)
    return encoder.eval()


def oracle(encoder: torch.nn.Module, items: list[int]) -> NDArray[np.float64]:
    """The whole block at every position, causal, in float64 NumPy; answers the last real item's state."""
    p = {name: value.detach().double().numpy() for name, value in encoder.state_dict().items()}

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        centred = x - x.mean(axis=-1, keepdims=True)
        return (
            centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-8) * p[f"{name}.weight"]
            + p[f"{name}.bias"]
        )

    def linear(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    padded = np.array(items + [ITEMS] * (WINDOW - len(items)))
    mask = (padded != ITEMS).astype(float)[:, None]
    x = (p["item.weight"][padded] + p["position"]) * mask
    queries = norm(x, "query_norm")
    match = linear(queries, "query") @ linear(x, "key").T / np.sqrt(WIDTH)
    match = np.where(mask.T == 0, -(2.0**32), match)
    match = np.where(np.tril(np.ones((WINDOW, WINDOW))) == 0, -(2.0**32), match)
    attention = np.exp(match - match.max(axis=1, keepdims=True))
    attention = attention / attention.sum(axis=1, keepdims=True) * mask
    x = attention @ linear(x, "value") + queries
    x = x + linear(np.maximum(linear(x, "feed"), 0), "forth")
    states: NDArray[np.float64] = norm(x * mask, "state_norm")
    return states[max(len(items), 1) - 1]


def encode(encoder: torch.nn.Module, items: list[int]) -> torch.Tensor:
    padded = torch.tensor([items + [ITEMS] * (WINDOW - len(items))], dtype=torch.int32)
    return encoder(padded, torch.tensor([max(len(items), 1)], dtype=torch.int32))[0]


@pytest.mark.parametrize("items", [[], [3], [3, 3], [0, 10, 4], [1, 2, 3, 4, 5]])
def test_equals_an_independent_forward_pass(items: list[int]) -> None:
    encoder = built()
    np.testing.assert_allclose(encode(encoder, items).detach().numpy(), oracle(encoder, items), rtol=1e-4, atol=1e-4)


def test_what_the_padding_holds_changes_nothing() -> None:
    encoder = built()
    before = encode(encoder, [3, 7])
    with torch.no_grad():
        encoder.item.weight[ITEMS] += 5  # type: ignore[union-attr,operator,index]
        encoder.position[2:] += 5  # type: ignore[index,operator]
    torch.testing.assert_close(encode(encoder, [3, 7]), before)


def test_order_matters() -> None:
    encoder = built()
    assert not torch.allclose(encode(encoder, [3, 7, 1]), encode(encoder, [7, 3, 1]))


def test_starts_as_the_protocol_says() -> None:
    encoder = SASRec()(5000, 10)
    assert encoder.item.weight.shape == (5001, 64)
    assert encoder.item.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert encoder.query.weight.abs().max().item() <= (6 / 128) ** 0.5


@pytest.mark.parametrize("wrong", [{"width": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_wrong_values_fail_when_it_is_made(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SASRec(**wrong)  # type: ignore[arg-type]
