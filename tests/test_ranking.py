from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import valuerec as vr
import valuerec.ranking
from valuerec.dataset import Dataset
from valuerec.model import Model
from valuerec.network import Network
from valuerec.ranking import POOL, Engine, NoValuesError, Wanted

N = 60


def made_up(
    method: str = "vpq", heads: int = 5, ensemble: str = "full", spread: float = 0.02, **options: object
) -> Model:
    """A model of random weights, of which some items are twins."""
    torch.manual_seed(1)
    network = Network(vr.SASRec(width=8), N, 6, heads, ensemble)
    with torch.no_grad():
        network.item_head.weight_ND[10:14] = network.item_head.weight_ND[9]
        if network.q_head is not None and ensemble == "full":
            weight_NKD = network.q_head.weight_NKD  # type: ignore[attr-defined]
            weight_NKD.copy_(torch.randn(N, 1, 8) * 0.1 + spread * torch.randn(N, heads, 8))
            weight_NKD[20:24] = weight_NKD[19]
            network.q_head.bias_NK += 0.3  # type: ignore[operator]
    config = config_of({"name": method, "heads": heads, **options} if heads else {"name": method}, 6)
    return Model(network, [f"i{item:02d}" for item in range(N)], config)


def config_of(method: dict[str, Any], window: int) -> dict[str, Any]:
    """What a run says of itself, as far as a model is built from it."""
    dataset = {"items": N, "fingerprint": "made up"}
    return {"dataset": dataset, "method": method, "backbone": {"name": "sasrec"}, "training": {"window": window}}


class Oracle:
    """Everything anew, in NumPy and float64, one item at a time."""

    def __init__(self, model: Model, session: list[str]) -> None:
        known = [model.index[item] for item in session if item in model.index][-model.network.window :]
        items = torch.tensor([known + [N] * (model.network.window - len(known))])
        with torch.inference_mode():
            state = model.network.double().backbone(items, torch.tensor([max(1, len(known))]))[0].numpy()
            weight, bias = model.network.item_head.weight_ND.numpy(), model.network.item_head.bias_N.numpy()
            logit = np.array([(row * state).sum() for row in weight]) + bias
            self.relevance = np.exp(logit) / np.exp(logit).sum()
            self.logit = logit
            if model.network.q_head is not None:
                weight_NKD, bias_NK = (part.numpy() for part in model.network.q_head.whole())
                q = np.array([[(head * state).sum() for head in heads] for heads in weight_NKD]) + bias_NK
                self.value, self.spread = q.mean(axis=1), q.std(axis=1)
        model.network.float()

    def order(self, by: str, penalty: float, blend: float, among: list[int]) -> list[int]:
        if by == "relevance":
            return sorted(among, key=lambda item: (-self.logit[item], item))
        score = self.value / (1 + penalty * self.spread)
        value = sorted(among, key=lambda item: (-score[item], item))
        if by == "value":
            return value
        place = [
            {item: 1 - rank / POOL for rank, item in enumerate(ranks)}
            for ranks in (self.order("relevance", 0, 0, among), value)
        ]
        return sorted(among, key=lambda item: (-((1 - blend) * place[0][item] + blend * place[1][item]), item))


@settings(max_examples=80, deadline=None)
@given(
    session=st.lists(st.sampled_from([*(f"i{item:02d}" for item in range(N)), "x", "y"]), max_size=9),
    k=st.integers(1, N + 5),
    by=st.sampled_from(["relevance", "value", "blend"]),
    penalty=st.sampled_from([0.0, 1.0, 20.0, 1e6]),
    blend=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    exclude_seen=st.booleans(),
    limit=st.sampled_from(["none", "allow", "block", "candidates"]),
    some=st.lists(st.sampled_from([*(f"i{item:02d}" for item in range(N)), "z"]), max_size=30),
    ensemble=st.sampled_from(["full", "factored"]),
    sign=st.sampled_from([1.0, -1.0]),
    looked=st.sampled_from([0.0, 2.0]),
)
def test_every_order_is_that_of_a_full_scan(
    session: list[str],
    k: int,
    by: str,
    penalty: float,
    blend: float,
    exclude_seen: bool,
    limit: str,
    some: list[str],
    ensemble: str,
    sign: float,
    looked: float,  # of the catalogue by mean, before all heads are scanned
) -> None:
    model = made_up(ensemble=ensemble)
    with torch.no_grad():
        for table in model.network.q_head.parameters():  # type: ignore[union-attr]
            table *= sign  # negative values raise an item by their uncertainty
    wanted = Wanted(
        session=session,
        k=k,
        exclude_seen=exclude_seen,
        allow=some if limit == "allow" else None,
        block=some if limit == "block" else (),
        candidates=some if limit == "candidates" else None,
        rank_by=by,  # type: ignore[arg-type]
        penalty=penalty,
        blend=blend,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(valuerec.ranking, "_LOOKED", looked)
        (ranking,) = Engine(model).rank([wanted])
    oracle = Oracle(model, session)
    known = {model.index[item] for item in session if item in model.index}
    listed = {model.index[item] for item in some if item in model.index}
    among = [item for item in range(N) if not (exclude_seen and item in known)]
    if limit in ("allow", "candidates"):
        among = [item for item in among if item in listed]
    elif limit == "block":
        among = [item for item in among if item not in listed]
    right = oracle.order(by, penalty, blend, among)[: len(among) if limit == "candidates" else k]
    assert [item.id for item in ranking.items] == [f"i{item:02d}" for item in right]
    for item, index in zip(ranking.items, right, strict=True):
        assert item.relevance == pytest.approx(oracle.relevance[index], rel=1e-5)
        assert item.value == pytest.approx(oracle.value[index], abs=1e-9)
        assert item.uncertainty == pytest.approx(oracle.spread[index], abs=1e-9)
        assert item.weight == pytest.approx(1 / (1 + penalty * oracle.spread[index]))
    asked = [*session, *(some if limit != "none" else [])]
    assert ranking.unknown_items == list(dict.fromkeys(item for item in asked if item not in model.index))


def test_in_a_batch_of_all_kinds_each_gets_what_it_gets_alone() -> None:
    engine = Engine(made_up(), max_disagreement=0.08)
    orders = ["relevance", "value", "blend", None]
    wanted = [
        Wanted(
            session=[f"i{(3 * row) % N:02d}"] * (row % 4),
            k=1 + row % 7,
            exclude_seen=row % 3 == 0,
            rank_by=orders[row % 4],  # type: ignore[arg-type]
            penalty=float(row % 2),
            allow=["i01", "i05", "i40"] if row % 5 == 4 else None,
        )
        for row in range(60)
    ]
    together = engine.rank(wanted)
    for each, ranking in zip(wanted, together, strict=True):
        (alone,) = engine.rank([each])
        assert [item.id for item in alone.items] == [item.id for item in ranking.items]
        assert alone.rank_by == ranking.rank_by and alone.fallback == ranking.fallback
    assert any(ranking.fallback for ranking in together) and not all(ranking.fallback for ranking in together)


def test_where_all_heads_disagree_relevance_answers_and_says_so() -> None:
    wanted = Wanted(session=["i03"], k=5, rank_by="value")
    model = made_up(spread=2.0)
    (sure,) = Engine(model).rank([wanted])
    (unsure,) = Engine(model, max_disagreement=0.0).rank([wanted])
    (likely,) = Engine(model).rank([Wanted(session=["i03"], k=5, rank_by="relevance")])
    assert sure.fallback is None and sure.rank_by == "value"
    assert unsure.items == likely.items and unsure.rank_by == "relevance"
    assert unsure.fallback is not None and "standard deviation" in unsure.fallback


def test_without_a_critic_there_is_no_order_by_value() -> None:
    engine = Engine(made_up("supervised", heads=0))
    (ranking,) = engine.rank([Wanted(session=[], k=2)])
    assert [item.value for item in ranking.items] == [None, None]
    with pytest.raises(NoValuesError, match="no critic"):
        engine.rank([Wanted(session=[], rank_by="value")])


def test_python_recommends_by_the_same_engine(small: Dataset, tmp_path: Path) -> None:
    run = vr.train(
        small,
        out=tmp_path / "run",
        method=vr.VPQ(heads=3, recommend="values"),
        epochs=1,
        quiet=True,
        backbone=vr.SASRec(width=8),
    )
    model = vr.load(run)
    (answer,) = model.recommend([["i003"]], k=6)
    (ranking,) = Engine(model).rank([Wanted(session=["i003"], k=6)])
    assert [tuple(item) for item in answer] == [
        (item.id, item.score, item.value, item.uncertainty) for item in ranking.items
    ]
    assert ranking.rank_by == "value" and [item.score for item in answer] == [item.value for item in answer]


@pytest.mark.parametrize(
    "backbone", [vr.SASRec(), vr.GRU4Rec(), vr.Caser(), vr.NextItNet()], ids=lambda each: each.name
)
def test_every_backbone_is_encoded_in_float64_on_its_own_tables(backbone: object) -> None:
    network = Network(backbone, N, 5, 0)  # type: ignore[arg-type]
    config = config_of({"name": "supervised"}, 5)
    model = Model(network, [f"i{item:02d}" for item in range(N)], config)
    engine = Engine(model)
    together = engine.state([[1, 2, 3], [4], []])
    alone = engine.state([[1, 2, 3]])
    items_BL, length_B = model.histories([[1, 2, 3], [4], []])
    with torch.inference_mode():
        assert torch.allclose(together.float(), network.state(items_BL, length_B), atol=1e-5)
    assert (together[0] - alone[0]).abs().max() < 1e-13
    assert not torch.equal(together, together.float().double())  # it is really wider
