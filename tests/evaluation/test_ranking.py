from __future__ import annotations

import math

import numpy as np
import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from valuerec.backbones import SASRec
from valuerec.dataset import CLICK, PURCHASE, Dataset
from valuerec.errors import UsageError
from valuerec.evaluation import count_rank, hit_ratio, metrics_of, ndcg, ranking, ranks, selection_score
from valuerec.network import Network


@pytest.mark.parametrize(
    ("scores", "item", "rank"),
    [
        ([3.0, 2.0, 1.0], 0, 1),
        ([3.0, 2.0, 1.0], 2, 3),
        ([2.0, 2.0, 2.0], 0, 3),  # a model that knows nothing is last, not first
        ([2.0, 2.0, 1.0], 1, 2),
        ([5.0], 0, 1),
        ([math.nan, 1.0, 0.0], 1, 2),
        ([math.nan, 1.0, 0.0], 0, 3),
    ],
)
def test_ranks_by_hand(scores: list[float], item: int, rank: int) -> None:
    assert count_rank(torch.tensor([scores]), torch.tensor([item])).tolist() == [rank]


@settings(max_examples=60, deadline=None)
@given(scores=st.lists(st.integers(-3, 3), min_size=1, max_size=12), data=st.data())
def test_counting_equals_sorting_with_ties_against_us(scores: list[int], data: st.DataObject) -> None:
    item = data.draw(st.integers(0, len(scores) - 1))
    others = sorted((score, place) for place, score in enumerate(scores) if place != item)
    by_sort = 1 + sum(score >= scores[item] for score, _ in others)
    assert count_rank(torch.tensor([scores]).float(), torch.tensor([item])).item() == by_sort


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), batch=st.integers(1, 5), items=st.integers(1, 70), nans=st.integers(0, 3))
def test_the_compiled_count_equals_the_plain_one(seed: int, batch: int, items: int, nans: int) -> None:
    draw = np.random.default_rng(seed)
    score_BN = torch.from_numpy(draw.integers(-3, 4, (batch, items)).astype(np.float32))
    score_BN.view(-1)[draw.integers(0, batch * items, nans)] = math.nan
    item_B = torch.from_numpy(draw.integers(0, items, batch))
    assert torch.equal(count_rank(score_BN, item_B), ranking.plain_count_rank(score_BN, item_B))


def test_metrics_by_hand() -> None:
    rank_E = np.array([1, 3, 20, 21])
    np.testing.assert_allclose(hit_ratio(rank_E, 20), [1, 1, 1, 0])
    np.testing.assert_allclose(ndcg(rank_E, 20), [1, 0.5, 1 / math.log2(21), 0])
    np.testing.assert_allclose(hit_ratio(rank_E, 5), [1, 1, 0, 0])
    found = metrics_of(rank_E, np.array([PURCHASE, CLICK, CLICK, PURCHASE], dtype=np.uint8))
    assert found["purchase"]["hr@20"] == 0.5 and found["click"]["hr@5"] == 0.5
    assert found["click"]["ndcg@20"] == pytest.approx((0.5 + 1 / math.log2(21)) / 2)
    assert selection_score(found) == pytest.approx((0.5 + found["click"]["ndcg@20"]) / 2)


def test_a_kind_that_does_not_occur_has_no_metric() -> None:
    found = metrics_of(np.array([1]), np.array([CLICK], dtype=np.uint8))
    assert found["purchase"]["hr@20"] is None and selection_score(found) == 1.0


def test_metrics_equal_an_independent_librarys() -> None:
    score_BN = torch.from_numpy(np.random.default_rng(1).permuted(np.tile(np.arange(60.0), (40, 1)), axis=1))
    item_B = torch.randint(0, 60, (40,))
    rank_E = count_rank(score_BN, item_B).numpy()
    wanted = {str(row): {str(int(item)): 1} for row, item in enumerate(item_B)}
    given_scores = {
        str(row): {str(item): float(score) for item, score in enumerate(scores)} for row, scores in enumerate(score_BN)
    }
    evaluator = pytrec_eval.RelevanceEvaluator(wanted, {"ndcg_cut.5,10,20", "success.5,10"})
    theirs = evaluator.evaluate(given_scores)
    for k in (5, 10, 20):
        np.testing.assert_allclose(ndcg(rank_E, k), [theirs[str(row)][f"ndcg_cut_{k}"] for row in range(40)], atol=1e-6)
    for k in (5, 10):
        np.testing.assert_allclose(hit_ratio(rank_E, k), [theirs[str(row)][f"success_{k}"] for row in range(40)])


def test_streaming_in_any_batch_gives_the_same_ranks(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(SASRec(width=8), small.n_items, 10, 0)
    whole = ranks(network, small, "test", torch.device("cpu"))
    monkeypatch.setattr(ranking, "_SCORES_AT_ONCE", 7 * small.n_items)
    np.testing.assert_array_equal(ranks(network, small, "test", torch.device("cpu")), whole)
    monkeypatch.setattr(ranking, "_SCORES_AT_ONCE", 1)  # a catalogue larger than the buffer: a row at a time
    np.testing.assert_array_equal(ranks(network, small, "test", torch.device("cpu")), whole)


def test_by_values_the_mean_of_the_heads_ranks(small: Dataset) -> None:
    network = Network(SASRec(width=8), small.n_items, 10, 4)
    found = ranks(network, small, "test", torch.device("cpu"), by="values")
    rows = small.transitions(np.array(small.events_of("test")), 10)
    assert network.q_head is not None
    with torch.inference_mode():
        state_BD = network.eval().state(torch.from_numpy(rows.state_BL), torch.from_numpy(rows.length_B))
        every_BM = torch.arange(small.n_items).expand(len(state_BD), -1)
        score_BN = network.q_head.of_each(state_BD, every_BM).mean(dim=2)
    expected = ranking.plain_count_rank(score_BN.double(), torch.from_numpy(rows.action_B)).numpy()
    assert np.mean(found == expected) > 0.98  # two roundings may order close values otherwise
    assert np.abs(found - expected).max() <= 1
    with pytest.raises(UsageError, match="no critic"):
        ranks(Network(SASRec(width=8), small.n_items, 10, 0), small, "test", torch.device("cpu"), by="values")


def test_a_model_without_preferences_ranks_everything_last(small: Dataset) -> None:
    network = Network(SASRec(width=8), small.n_items, 10, 0)
    torch.nn.init.zeros_(network.item_head.weight_ND)
    assert set(ranks(network, small, "test", torch.device("cpu")).tolist()) == {small.n_items}
