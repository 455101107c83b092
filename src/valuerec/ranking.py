"""From sessions to ranked items, by one model: exact, and the same whoever asks (Python, a file, the service).

States are encoded in float64, so that a session's does not depend on what it is encoded beside, and each order of the
catalogue is the one that a scan of it in float64 would give, ties by id:
- relevance: the item head;
- value: the mean of the Q-heads, times W = 1 / (1 + λ · SD of the heads) where λ > 0 (equations 2 and 3 of the paper);
- blend b: (1 − b) times the place by relevance plus b times the place by value, where the first place counts 1 and each
  further one 1/POOL less, down to 0. Places are counted among the items that may be recommended at all.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import torch
from torch import Tensor, nn

from valuerec.errors import UsageError
from valuerec.heads import FullHeads, QEnsemble
from valuerec.ops import LinearHead, fastest_screen

if TYPE_CHECKING:
    from valuerec.model import Model

RankBy = Literal["relevance", "value", "blend"]
POOL: Final = 1000  # places that count in a blend; also the most that can be asked for
PENALTY: Final = 20.0  # λ of a model whose method has none (the paper's)
_NUMBERS: Final = 1 << 24  # of one batch of scores
_TILE: Final = 1 << 13
_WIDEST: Final = 1 << 13  # items by mean, beyond which all items' heads are scored
_FACTS: Final = 1 << 23  # numbers of Q-heads that sessions of one portion are told of
_CACHED: Final = 1 << 17  # of these gathered at once: what a core's cache holds


class NoValuesError(UsageError):
    """An order by value was asked of a model without a critic."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What one session wants.

    Args:
        session: item ids, oldest first; those the model does not know are passed over.
        k: items, at least 1; of a blend at most `POOL`.
        exclude_seen: leave out the session's own items.
        allow: recommend only these; None for all.
        block: recommend none of these.
        candidates: put these in order instead of the catalogue, all of them.
        rank_by: None for what the model was trained to recommend by, as `Model.recommend` does.
        blend: b.
        penalty: λ; None for the method's own.
    """

    session: Sequence[str]
    k: int = 20
    exclude_seen: bool = False
    allow: Sequence[str] | None = None
    block: Sequence[str] = ()
    candidates: Sequence[str] | None = None
    rank_by: RankBy | None = None
    blend: float = 0.5
    penalty: float | None = None


class Scored(NamedTuple):
    """An item with what is known of it; value, uncertainty and weight are None without a critic."""

    id: str
    score: float
    relevance: float
    value: float | None
    uncertainty: float | None
    weight: float | None


class Ranking(NamedTuple):
    """What one session is recommended, by what order, and why not by the one asked for."""

    items: list[Scored]
    rank_by: RankBy
    fallback: str | None
    unknown_items: list[str]


class _Pick(NamedTuple):
    """The items chosen for a session, by index, best first, and the scores that chose them."""

    items: list[int]
    scores: list[float]

    @classmethod
    def of(cls, item_k: Tensor, score_k: Tensor, k: int) -> _Pick:
        """The first k of what a linear head has found, less what is no item."""
        scores = [score for score in score_k[:k].tolist() if score != -math.inf]
        return cls(item_k[: len(scores)].tolist(), scores)


class _Facts(NamedTuple):
    """What is told of chosen items."""

    relevance: list[float]
    value: list[float] | None
    spread: list[float] | None


class _Row(NamedTuple):
    """One session: its state, the items that must not be, and those among which is chosen, None for the catalogue."""

    state_1D: Tensor
    hidden: set[int]
    chosen: list[int] | None


class Engine:
    """Ranks by one model.

    Args:
        model: what ranks.
        max_disagreement: an order by value is not given where, for every item of it, SD > max_disagreement · |value|.
    """

    def __init__(self, model: Model, max_disagreement: float = math.inf) -> None:
        self.model, self.max_disagreement = model, max_disagreement
        network = model.network
        self._encoder = _in_double(network.backbone, network.window)
        self._items = LinearHead.of(network.item_head.weight_ND, network.item_head.bias_N)
        self._q = network.q_head
        self._means = _mean_head(self._q) if self._q is not None else None
        self.penalty = float(model.config["method"].get("penalty", PENALTY))
        self._most_rows = max(1, _NUMBERS // network.n_items)

    @property
    def has_values(self) -> bool:
        """Whether there is a critic."""
        return self._q is not None

    def check(self, wanted: Wanted) -> None:
        """Refuse what this model can't do.

        Raises:
            NoValuesError: for an order by value without a critic.
        """
        if wanted.rank_by in ("value", "blend") and not self.has_values:
            raise NoValuesError(f"This model has no critic, so it can't rank by {wanted.rank_by}; rank by relevance.")

    @torch.inference_mode()
    def rank(self, wanted: Sequence[Wanted]) -> list[Ranking]:
        """Rank for each; a session gets what it would get alone.

        Raises:
            NoValuesError: see `check`.
        """
        for each in wanted:
            self.check(each)
        rankings: list[Ranking] = []
        for start in range(0, len(wanted), self._most_rows):
            rankings += self._block(wanted[start : start + self._most_rows])
        return rankings

    @torch.inference_mode()
    def state(self, known: list[list[int]]) -> Tensor:
        """The states of sessions given as the indices of their items, B×D (float64)."""
        return self.encode(*self.model.histories(known))

    def encode(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        """The states of histories, B×D (float64)."""
        state_BD: Tensor = self._encoder(items_BL, length_B)
        return state_BD.double()

    @property
    def head(self) -> LinearHead:
        """What orders the catalogue where nothing else is asked for: the item head, or the mean of the Q-heads."""
        if self.model.recommends_by == "items":
            return self._items
        assert self._means is not None  # a method without a critic recommends by items
        return self._means

    def _block(self, wanted: Sequence[Wanted]) -> list[Ranking]:
        index = self.model.index
        known = [[index[item] for item in each.session if item in index] for each in wanted]
        orders = [self._order(each) for each in wanted]
        state_BD = self.state(known)
        chosen = [self._chosen(each) for each in wanted]
        hidden = [self._hidden(each, items) for each, items in zip(wanted, known, strict=True)]
        chosen = [_without(among, ruled_out) for among, ruled_out in zip(chosen, hidden, strict=True)]
        linear = [by == "relevance" and among is None for (by, _), among in zip(orders, chosen, strict=True)]
        # Of each, for what its items' logits add up to; the order itself where that is asked for.
        best = self._items.best(
            state_BD, [each.k if own else 1 for each, own in zip(wanted, linear, strict=True)], hidden
        )
        picks = {
            row: _Pick.of(best.item_Bk[row], best.score_Bk[row], each.k)
            for row, each in enumerate(wanted)
            if linear[row]
        }
        rows = [_Row(state_BD[row : row + 1], hidden[row], chosen[row]) for row in range(len(wanted))]
        for row, each in enumerate(wanted):
            if row not in picks:
                picks[row] = _Among(self, rows[row]).by(*orders[row], each)
        normaliser_B = best.log_sum_B.tolist()
        facts = self._facts(state_BD, normaliser_B, picks)
        fell_back = {
            row for row in range(len(wanted)) if orders[row][0] != "relevance" and self._all_unsure(facts[row])
        }
        for row in fell_back:
            picks[row] = _Among(self, rows[row]).by("relevance", 0.0, wanted[row])
        facts |= self._facts(state_BD, normaliser_B, {row: picks[row] for row in fell_back})
        return [
            self._told(each, orders[row], picks[row], facts[row], row in fell_back) for row, each in enumerate(wanted)
        ]

    def _order(self, wanted: Wanted) -> tuple[RankBy, float]:
        """The order, and λ."""
        penalty = self.penalty if wanted.penalty is None else wanted.penalty
        if wanted.rank_by is None:
            return ("relevance", penalty) if self.model.recommends_by == "items" else ("value", 0.0)
        return wanted.rank_by, penalty

    def _chosen(self, wanted: Wanted) -> list[int] | None:
        """The items among which is chosen, in order of their index; None for the catalogue."""
        if wanted.candidates is None and wanted.allow is None:
            return None
        among = set(self._known(wanted.candidates if wanted.candidates is not None else wanted.allow or ()))
        if wanted.candidates is not None and wanted.allow is not None:
            among &= set(self._known(wanted.allow))
        return sorted(among)

    def _hidden(self, wanted: Wanted, known: list[int]) -> set[int]:
        hidden = set(self._known(wanted.block))
        return hidden | set(known) if wanted.exclude_seen else hidden

    def _known(self, ids: Iterable[str]) -> list[int]:
        index = self.model.index
        return [index[item] for item in ids if item in index]

    def q(self, state_BD: Tensor, item_BM: Tensor) -> Tensor:
        """Q_k in float64 of M items a row, B×M×K."""
        assert self._q is not None
        return self._q.of_each(state_BD, item_BM)

    def values(self, state_BD: Tensor, item_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the Q-heads in float64 of M items a row, each B×M."""
        assert self._q is not None
        rows = max(1, _CACHED // max(1, item_BM.shape[1] * self._q.n_heads * state_BD.shape[1]))
        means, spreads = [], []
        for state_RD, item_RM in zip(torch.split(state_BD, rows), torch.split(item_BM, rows), strict=True):
            q_RMK = self.q(state_RD, item_RM)
            means.append(q_RMK.mean(dim=2))
            spreads.append(q_RMK.std(dim=2, correction=0))
        return torch.cat(means), torch.cat(spreads)

    def _facts(self, state_BD: Tensor, normaliser_B: list[float], picks: dict[int, _Pick]) -> dict[int, _Facts]:
        """What is told of the chosen items, for as many sessions at once as fit."""
        facts: dict[int, _Facts] = {}
        for rows in self._portions(picks):
            widest = max(len(picks[row].items) for row in rows)
            if widest == 0:
                facts |= {row: _Facts([], None, None) for row in rows}
                continue
            item_PM = torch.tensor([picks[row].items + [0] * (widest - len(picks[row].items)) for row in rows])
            state_PD = state_BD[rows]
            normaliser_P1 = torch.tensor([[normaliser_B[row]] for row in rows], dtype=torch.float64)
            relevance = (self._items.exact(state_PD, item_PM) - normaliser_P1).exp().tolist()
            value = spread = None
            if self._q is not None:
                value, spread = (part_PM.tolist() for part_PM in self.values(state_PD, item_PM))
            for place, row in enumerate(rows):
                count = len(picks[row].items)
                facts[row] = _Facts(
                    relevance[place][:count],
                    None if value is None else value[place][:count],
                    None if spread is None else spread[place][:count],
                )
        return facts

    def _portions(self, picks: dict[int, _Pick]) -> Iterator[list[int]]:
        """Sessions in portions whose Q-heads fit, those with long lists among themselves."""
        head = self.model.network.item_head.weight_ND.shape[1] * max(1, self._q.n_heads if self._q is not None else 1)
        portion: list[int] = []
        for row in sorted(picks, key=lambda row: len(picks[row].items)):
            if portion and (len(portion) + 1) * len(picks[row].items) * head > _FACTS:
                yield portion
                portion = []
            portion.append(row)
        if portion:
            yield portion

    def _all_unsure(self, facts: _Facts) -> bool:
        if not facts.value or facts.spread is None:
            return False
        pairs = zip(facts.value, facts.spread, strict=True)
        return all(spread > self.max_disagreement * abs(value) for value, spread in pairs)

    def _told(
        self, wanted: Wanted, order: tuple[RankBy, float], pick: _Pick, facts: _Facts, fell_back: bool
    ) -> Ranking:
        by, penalty = order
        fallback = None
        if fell_back:
            fallback = (
                f"Ranked by relevance, because for every item that {by} would recommend the heads' standard deviation "
                f"is above {self.max_disagreement:g} times its value."
            )
            by = "relevance"
        ids, index = self.model.item_ids, self.model.index
        items = [ids[item] for item in pick.items]
        score = facts.relevance if by == "relevance" else pick.scores
        asked = (*wanted.session, *(wanted.candidates or ()), *(wanted.allow or ()), *wanted.block)
        unknown = list(dict.fromkeys(item for item in asked if item not in index))
        if facts.value is None or facts.spread is None:
            told = [Scored(*each, None, None, None) for each in zip(items, score, facts.relevance, strict=True)]
            return Ranking(told, by, fallback, unknown)
        columns = zip(items, score, facts.relevance, facts.value, facts.spread, strict=True)
        return Ranking([Scored(*each, 1 / (1 + penalty * each[4])) for each in columns], by, fallback, unknown)


def _without(among: list[int] | None, hidden: set[int]) -> list[int] | None:
    return among if among is None else [item for item in among if item not in hidden]


class _Among:
    """The best items of one session, of the catalogue or of a list."""

    def __init__(self, engine: Engine, row: _Row) -> None:
        self._engine, self._row = engine, row
        self._chosen_M = None if row.chosen is None else torch.tensor(row.chosen, dtype=torch.int64)

    def by(self, order: RankBy, penalty: float, wanted: Wanted) -> _Pick:
        """The best by an order; all of a list that is to be put in order."""
        left = (
            len(self._chosen_M)
            if self._chosen_M is not None
            else self._engine.model.network.n_items - len(self._row.hidden)
        )
        k = left if wanted.candidates is not None else min(wanted.k, left)
        if k == 0:
            return _Pick([], [])
        if order == "blend":
            return self._blend(k, left, penalty, wanted.blend)
        item_k, score_k = self._relevance(k) if order == "relevance" else self._value(k, penalty)
        return _Pick(item_k.tolist(), score_k.tolist())

    def _linear(self, head: LinearHead, k: int) -> tuple[Tensor, Tensor]:
        """The k best of the catalogue by a linear head; there are so many."""
        best = head.best(self._row.state_1D, [k], [self._row.hidden])
        return best.item_Bk[0], best.score_Bk[0]

    def _relevance(self, k: int) -> tuple[Tensor, Tensor]:
        head = self._engine._items
        if self._chosen_M is None:
            return self._linear(head, k)
        return _sorted(self._chosen_M, head.exact(self._row.state_1D, self._chosen_M[None])[0], k)

    def _value(self, k: int, penalty: float) -> tuple[Tensor, Tensor]:
        """The k best by the penalised mean.

        W is at most 1, so an item's score is at most its mean, or 0 where that is negative: once the k-th best score of
        the items with the highest means is above all other means, those others are not among the best.
        """
        if self._chosen_M is not None:
            return _sorted(self._chosen_M, self._penalised(self._chosen_M, penalty), k)
        means, left = self._engine._means, self._engine.model.network.n_items - len(self._row.hidden)
        assert means is not None
        if penalty == 0:
            return self._linear(means, k)
        looked = 2 * k + 32
        while looked < min(left, _WIDEST):
            item_M, mean_M = self._linear(means, looked)
            item_k, score_k = _sorted(item_M.sort().values, self._penalised(item_M.sort().values, penalty), k)
            if float(score_k[-1]) > max(float(mean_M[-1]), 0.0):
                return item_k, score_k
            looked *= 4
        item_N = torch.ones(self._engine.model.network.n_items, dtype=torch.bool)
        item_N[sorted(self._row.hidden)] = False
        item_M = item_N.nonzero().flatten()
        return _sorted(item_M, self._penalised(item_M, penalty), k)

    def _blend(self, k: int, left: int, penalty: float, blend: float) -> _Pick:
        pool = min(POOL, left)
        score: dict[int, float] = {}
        for share, item_P in ((1 - blend, self._relevance(pool)[0]), (blend, self._value(pool, penalty)[0])):
            for place, item in enumerate(item_P.tolist()):
                score[item] = score.get(item, 0.0) + share * (1 - place / POOL)
        best = sorted(score.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
        if self._chosen_M is not None and len(best) < k:  # a list longer than the pool: the rest counts 0
            best += [(item, 0.0) for item in self._chosen_M.tolist() if item not in score][: k - len(best)]
        return _Pick([item for item, _ in best], [value for _, value in best])

    def _penalised(self, item_M: Tensor, penalty: float) -> Tensor:
        parts = []
        for item_T in torch.split(item_M, _TILE):
            q_TK = self._engine.q(self._row.state_1D, item_T[None])[0]
            parts.append(q_TK.mean(dim=1) / (1 + penalty * q_TK.std(dim=1, correction=0)))
        return torch.cat(parts)


def _sorted(item_M: Tensor, score_M: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of items that stand in order of their index."""
    score_M, place_M = score_M.sort(descending=True, stable=True)
    return item_M[place_M[:k]], score_M[:k]


def _mean_head(q_head: QEnsemble) -> LinearHead:
    """The mean of the Q-heads: screened as one head, of weights that are rounded once, and exact by the heads."""
    with torch.inference_mode():
        if isinstance(q_head, FullHeads):
            tiles = torch.split(q_head.weight_NKD, _TILE)
            weight_ND = torch.cat([tile_TKD.double().mean(dim=1).float() for tile_TKD in tiles])
            bias_N = q_head.bias_NK.double().mean(dim=1).float()
        else:
            weight, bias = copy.deepcopy(q_head).double().mean()
            weight_ND, bias_N = weight.float(), bias.float()
        screen = fastest_screen(weight_ND, bias_N, extra=1, summed=False)
    return LinearHead(len(bias_N), screen, lambda state_BD, item_BM: q_head.of_each(state_BD, item_BM).mean(dim=2))


class _Widened(nn.Module):
    """A table of float32 that answers in float64: a copy of it would be the larger part of an encoder."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self._table = (table,)  # not as a submodule, which would be converted

    def forward(self, item: Tensor) -> Tensor:
        """Rows of the table."""
        row: Tensor = self._table[0](item)
        return row.double()


def _in_double(backbone: nn.Module, window: int) -> nn.Module:
    """A backbone that computes in float64 on the same tables; of somebody's own that can't, the backbone itself."""
    tables = {id(module): _Widened(module) for module in backbone.modules() if isinstance(module, nn.Embedding)}
    try:
        with torch.inference_mode():
            wide = copy.deepcopy(backbone, tables).double().eval()
            wide(torch.zeros(1, window, dtype=torch.int32), torch.ones(1, dtype=torch.int32))
        return wide
    except Exception:  # anybody's code, of which only float32 is asked for
        return backbone
