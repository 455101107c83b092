"""What holds for every backbone; `BACKBONES` says which there are, `oracles.py` what each must answer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from backbones.oracles import ORACLES
from valuerec.backbones import BACKBONES, backbone_named
from valuerec.errors import UsageError

ITEMS = 11
ALL = pytest.mark.parametrize("name", list(BACKBONES))
HISTORIES = [[], [3], [3, 3], [0, 10, 4], [1, 2, 3, 4, 5]]


def built(name: str, window: int = 5, width: int = 6, seed: int = 0) -> nn.Module:
    """An encoder in float64, its weights away from zeros and ones, so that every term counts."""
    encoder = backbone_named(name)(width=width)(ITEMS, window).double()
    draw = torch.Generator().manual_seed(seed)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.7, generator=draw)
    return encoder.eval()


def padded(histories: list[list[int]], window: int = 5) -> tuple[Tensor, Tensor]:
    rows = [items + [ITEMS] * (window - len(items)) for items in histories]
    lengths = [max(len(items), 1) for items in histories]
    return torch.tensor(rows, dtype=torch.int32), torch.tensor(lengths, dtype=torch.int32)


@ALL
@settings(max_examples=40, deadline=None)
@given(data=st.data(), window=st.integers(1, 13), width=st.integers(1, 7), seed=st.integers(0, 99))
def test_equals_an_independent_forward_pass(name: str, data: st.DataObject, window: int, width: int, seed: int) -> None:
    history = st.lists(st.integers(0, ITEMS - 1), max_size=window)
    histories = data.draw(st.lists(history, min_size=1, max_size=5))
    encoder = built(name, window, width, seed)
    weights = {key: value.numpy() for key, value in encoder.state_dict().items()}
    expected_BD = np.stack([ORACLES[name](weights, items, ITEMS, window) for items in histories])
    state_BD = encoder(*padded(histories, window)).detach().numpy()
    np.testing.assert_allclose(state_BD, expected_BD, rtol=1e-9, atol=1e-9)


@ALL
def test_what_stands_after_the_length_changes_nothing(name: str) -> None:
    encoder = built(name)
    items_BL, length_B = padded(HISTORIES)
    before = encoder(items_BL, length_B)
    after = torch.arange(5) >= length_B.unsqueeze(1)
    others = torch.where(after, torch.randint(0, ITEMS + 1, items_BL.shape, dtype=torch.int32), items_BL)
    assert not torch.equal(others, items_BL)
    assert torch.equal(encoder(others, length_B), before)


@ALL
def test_the_vector_of_the_padding_does_not_reach_a_history(name: str) -> None:
    encoder = built(name)
    before = encoder(*padded(HISTORIES))
    with torch.no_grad():
        encoder.item.weight[ITEMS] += 5  # type: ignore[union-attr,operator,index]
    assert torch.equal(encoder(*padded(HISTORIES))[1:], before[1:])


@ALL
def test_every_item_of_a_history_counts_and_so_does_their_order(name: str) -> None:
    encoder = built(name)
    histories = [[1, 2, 3, 4, 5], [9, 2, 3, 4, 5], [1, 9, 3, 4, 5], [1, 2, 3, 4, 9], [1, 2, 4, 3, 5], [1, 2, 3, 4]]
    first_D, *others = encoder(*padded(histories))
    for other_D in others:
        assert (first_D - other_D).abs().max() > 1e-3


@ALL
def test_an_empty_history_has_a_finite_state_as_built_and_trains(name: str) -> None:
    encoder = backbone_named(name)()(ITEMS, 10)
    state_BD = encoder(torch.full((3, 10), ITEMS, dtype=torch.int32), torch.ones(3, dtype=torch.int32))
    assert state_BD.isfinite().all()
    state_BD.square().sum().backward()
    for parameter in encoder.parameters():
        assert parameter.grad is None or parameter.grad.to_dense().isfinite().all()


@ALL
def test_gradients_reach_every_weight_and_are_those_of_finite_differences(name: str) -> None:
    encoder = built(name)
    batch = padded([*HISTORIES, [7, 9, 6, 8, 2]])
    wanted_BD = torch.randn_like(encoder(*batch))
    encoder.zero_grad()
    (encoder(*batch) * wanted_BD).sum().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None, key
        gradient = parameter.grad.to_dense()
        away = torch.randn_like(parameter)
        with torch.no_grad():
            parameter += 1e-6 * away
            above = (encoder(*batch) * wanted_BD).sum()
            parameter -= 2e-6 * away
            below = (encoder(*batch) * wanted_BD).sum()
            parameter += 1e-6 * away
        assert (gradient * away).sum().item() == pytest.approx(((above - below) / 2e-6).item(), rel=1e-5, abs=1e-6)
        if key != "key.bias":  # SASRec's: the softmax takes it out again
            assert gradient.abs().max() > 1e-6, key


@ALL
def test_starts_as_the_protocol_says_and_keeps_the_item_gradients_sparse(name: str) -> None:
    encoder = backbone_named(name)()(5000, 10)
    table = encoder.item
    assert isinstance(table, nn.Embedding) and table.weight.shape == (5001, 64)
    assert table.weight.mean().item() == pytest.approx(0, abs=1e-4)
    assert table.weight.std().item() == pytest.approx(0.01, rel=0.02)
    encoder(torch.tensor([[1, 2, *[5000] * 8]]), torch.tensor([2])).sum().backward()
    assert table.weight.grad is not None and table.weight.grad.is_sparse


class Fixed(nn.Module):
    """In the place of dropout: the first call keeps these columns, the second others, and so on."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.draw = np.random.default_rng(seed)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.from_numpy(self.mask(x.shape[-1]))

    def mask(self, width: int) -> np.ndarray:
        return self.draw.integers(0, 2, width) * 2.0


@pytest.mark.parametrize("name", [name for name in BACKBONES if hasattr(backbone_named(name)(), "dropout")])
@pytest.mark.parametrize("seed", range(5))
def test_dropout_stands_where_the_protocol_has_it(name: str, seed: int) -> None:
    encoder = built(name, seed=seed).train()
    encoder.dropout = Fixed(seed)
    weights = {key: value.numpy() for key, value in encoder.state_dict().items()}
    state_BD = encoder(*padded(HISTORIES)).detach().numpy()
    for history, state_D in zip(HISTORIES, state_BD, strict=True):
        same = Fixed(seed)
        expected_D = ORACLES[name](weights, history, ITEMS, 5, lambda x, same=same: x * same.mask(x.shape[-1]))
        np.testing.assert_allclose(state_D, expected_D, rtol=1e-9, atol=1e-9)


@ALL
def test_dropout_is_for_training_only(name: str) -> None:
    encoder, batch = built(name), padded(HISTORIES)
    assert torch.equal(encoder(*batch), encoder(*batch))
    encoder.train()
    drops = "dropout" in {field.name for field in dataclasses.fields(BACKBONES[name])}  # type: ignore[arg-type]
    assert torch.equal(encoder(*batch), encoder(*batch)) is not drops


@ALL
@pytest.mark.parametrize("wrong", [{"width": 0}, {"dropout": 1.0}, {"dropout": -0.1}, {"dropout": float("nan")}])
def test_wrong_values_fail_when_it_is_made(name: str, wrong: dict[str, float]) -> None:
    ((option, value),) = wrong.items()
    kind = backbone_named(name)
    if option not in {field.name for field in dataclasses.fields(kind)}:  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=option):
            kind(**wrong)
        return
    with pytest.raises(UsageError, match=rf"{kind.__name__}'s {option} is {value}; it must be .*\.$"):
        kind(**wrong)


@ALL
def test_a_configuration_is_a_value(name: str) -> None:
    kind = backbone_named(name)
    assert kind(width=8) == kind(width=8) != kind()
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().width = 8  # type: ignore[attr-defined]
