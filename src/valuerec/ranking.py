"""From sessions to ranked items, by one model: exact, and the same whoever asks (Python, a file, the service).

States are encoded in float64, so that what a session is encoded beside changes its last digits at most, and each order
of the catalogue is the one that a scan of it in float64 would give, ties by id:
- relevance: the item head;
- value: the mean of the Q-heads, times W = 1 / (1 + λ · SD of the heads) where λ > 0 (equations 2 and 3 of the paper);
- blend b: (1 − b) times the place by relevance plus b times the place by value, where the first place counts 1 and each
  further one 1/POOL less, down to 0. Places are counted among the items that may be recommended at all.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from valuerec.errors import UsageError
from valuerec.heads import FullHeads, QEnsemble, Reach
from valuerec.ops import LinearHead, fastest_screen, penalised_candidates

if TYPE_CHECKING:
    from valuerec.model import Model

RankBy = Literal["relevance", "value", "blend"]
POOL: Final = 1000  # places that count in a blend; also the most that can be asked for
PENALTY: Final = 20.0  # λ of a model whose method has none (the paper's)
_NUMBERS: Final = 1 << 24  # of one batch of scores
_TILE: Final = 1 << 13
_LOOKED: Final = 1 / 64  # of the catalogue by mean: beyond it all heads are scanned, which is cheaper an item
_COLUMNS: Final = 16  # of which a product with 2 to 15 columns takes no less time
_SCANNED: Final = 64  # sessions of one scan: more take no less time each
_PRODUCTS: Final = 1 << 33  # of one scan: a quarter of a second
_FACTS: Final = 1 << 23  # numbers of Q-heads that sessions of one portion are told of
_CACHED: Final = 1 << 17  # of these gathered at once: what a core's cache holds


class NoValuesError(UsageError):
    """An order by value was asked of a model without a critic."""


class NotWantedError(Exception):
    """Nobody wants these rankings any more."""


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
    """One session: its state, what may be recommended, and what is wanted.

    `hidden` are the items that must not be, `chosen_M` those among which is chosen, in order of their index and None
    for the catalogue; `k` items are wanted, by an order that must be known `depth` deep.
    """

    state_1D: Tensor
    hidden: set[int]
    chosen_M: Tensor | None
    by: RankBy
    penalty: float
    k: int
    depth: int


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
        self._most_valued = self._most_rows
        if self._q is not None:
            width = network.item_head.weight_ND.shape[1]
            self._most_valued = max(1, min(_SCANNED, _PRODUCTS // (network.n_items * self._q.n_heads * width)))

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
    def rank(self, wanted: Sequence[Wanted], go_on: Callable[[], bool] = lambda: True) -> list[Ranking]:
        """Rank for each; a session gets what it would get alone.

        Args:
            wanted: any number.
            go_on: asked a few times a second whether it is worth while.

        Raises:
            NoValuesError: see `check`.
            NotWantedError: where it is not.
        """
        for each in wanted:
            self.check(each)
        by_value = any(each.rank_by in ("value", "blend") for each in wanted)
        most = self._most_valued if by_value else self._most_rows
        rankings: list[Ranking] = []
        for start in range(0, len(wanted), most):
            if not go_on():
                raise NotWantedError
            rankings += self._block(wanted[start : start + most])
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
        state_BD = self.state(known)
        rows = [
            self._row(each, items, state_BD[place : place + 1])
            for place, (each, items) in enumerate(zip(wanted, known, strict=True))
        ]
        value = self._by_value({place: row for place, row in enumerate(rows) if row.by != "relevance"})
        relevance, normaliser_B = self._by_relevance(state_BD, rows)
        picks = {
            place: _blended(row, relevance[place], value[place], each.blend)
            if row.by == "blend"
            else (relevance if row.by == "relevance" else value)[place]
            for place, (row, each) in enumerate(zip(rows, wanted, strict=True))
        }
        facts = self._facts(state_BD, normaliser_B, picks)
        fallen = [place for place, row in enumerate(rows) if row.by != "relevance" and self._all_unsure(facts[place])]
        if fallen:
            instead = [rows[place]._replace(by="relevance", depth=rows[place].k) for place in fallen]
            again, _ = self._by_relevance(state_BD[fallen], instead)
            picks |= {place: again[number] for number, place in enumerate(fallen)}
            facts |= self._facts(state_BD, normaliser_B, {place: picks[place] for place in fallen})
        return [
            self._told(each, rows[place], picks[place], facts[place], place in fallen)
            for place, each in enumerate(wanted)
        ]

    def _row(self, wanted: Wanted, known: list[int], state_1D: Tensor) -> _Row:
        by, penalty = wanted.rank_by, self.penalty if wanted.penalty is None else wanted.penalty
        if by is None:
            by, penalty = ("relevance", penalty) if self.model.recommends_by == "items" else ("value", 0.0)
        hidden = set(self._known(wanted.block)) | (set(known) if wanted.exclude_seen else set())
        chosen_M, left = None, self.model.network.n_items - len(hidden)
        if wanted.candidates is not None or wanted.allow is not None:
            chosen = set(self._known(wanted.candidates if wanted.candidates is not None else wanted.allow or ()))
            if wanted.candidates is not None and wanted.allow is not None:
                chosen &= set(self._known(wanted.allow))
            chosen_M = torch.tensor(sorted(chosen - hidden), dtype=torch.int64)
            left = len(chosen_M)
        k = left if wanted.candidates is not None else min(wanted.k, left)
        return _Row(state_1D, hidden, chosen_M, by, penalty, k, min(POOL, left) if by == "blend" else k)

    def _by_relevance(self, state_BD: Tensor, rows: Sequence[_Row]) -> tuple[list[_Pick], list[float]]:
        """The best of each by the item head, as deep as is wanted, and what the catalogue's logits add up to (log)."""
        depth = [0 if row.by == "value" else row.depth for row in rows]
        whole = [1 if row.chosen_M is not None else max(1, deep) for row, deep in zip(rows, depth, strict=True)]
        best = self._items.best(state_BD, whole, [row.hidden for row in rows])
        picks = []
        for place, (row, deep) in enumerate(zip(rows, depth, strict=True)):
            if row.chosen_M is None or deep == 0:
                picks.append(_Pick.of(best.item_Bk[place], best.score_Bk[place], deep))
            else:
                picks.append(_first(row.chosen_M, self._items.exact(row.state_1D, row.chosen_M[None])[0], deep))
        return picks, best.log_sum_B.tolist()

    def _by_value(self, rows: dict[int, _Row]) -> dict[int, _Pick]:
        """The best of each by the penalised mean, as deep as is wanted.

        W is at most 1, so an item's score is at most its mean, or 0 where that is negative: once the last of the best
        among the items with the highest means is above all other means, those others are not among the best. Where
        this does not settle it soon, all heads are scanned.
        """
        found: dict[int, _Pick] = {}
        plain: dict[int, _Row] = {}
        left: dict[int, _Row] = {}
        for place, row in rows.items():
            if row.depth == 0:
                found[place] = _Pick([], [])
            elif row.chosen_M is not None:
                found[place] = _first(row.chosen_M, self._penalised(row, row.chosen_M), row.depth)
            else:
                (left if row.penalty else plain)[place] = row
        if plain:
            found |= self._by_mean(plain, 0)
        looked = max((2 * row.depth + 32 for row in left.values()), default=0)
        while left and looked <= _LOOKED * self.model.network.n_items:
            settled = self._by_mean(left, looked)
            found |= settled
            left = {place: row for place, row in left.items() if place not in settled}
            looked *= 4
        return found | self._by_scan(left)

    def _by_mean(self, rows: dict[int, _Row], looked: int) -> dict[int, _Pick]:
        """The best of those for which the items with the highest means, `looked` of them, are enough."""
        assert self._means is not None
        n_items, found = self.model.network.n_items, {}
        deep = [min(looked if row.penalty else row.depth, n_items - len(row.hidden)) for row in rows.values()]
        state_RD, hidden = torch.cat([row.state_1D for row in rows.values()]), [row.hidden for row in rows.values()]
        best = self._means.best(state_RD, deep, hidden)
        for number, (place, row) in enumerate(rows.items()):
            item_M, mean_M = best.item_Bk[number, : deep[number]], best.score_Bk[number, : deep[number]]
            if not row.penalty:
                found[place] = _Pick(item_M.tolist(), mean_M.tolist())
                continue
            item_M = item_M.sort().values
            pick = _first(item_M, self._penalised(row, item_M), row.depth)
            if len(item_M) == n_items - len(row.hidden) or pick.scores[-1] > max(float(mean_M[-1]), 0.0):
                found[place] = pick
        return found

    def _by_scan(self, rows: dict[int, _Row]) -> dict[int, _Pick]:
        """The best by a scan in float32 that says which may be, and float64 for these."""
        if not rows:
            return {}
        assert self._q is not None
        each = list(rows.values())
        more = -len(each) % _COLUMNS if len(each) > 1 else 0
        state_RD = functional.pad(torch.cat([row.state_1D for row in each]), (0, 0, 0, more))
        found = penalised_candidates(
            self._q.tiles(state_RD.float()),
            self._reach.roundings,
            self._reach.longest * state_RD.norm(dim=1) + self._reach.largest,
            torch.tensor([row.penalty for row in each] + [0.0] * more, dtype=torch.float64),
            [row.depth for row in each],
            [row.hidden for row in each],
        )
        return {
            place: _first(item_M, self._penalised(row, item_M), row.depth)
            for (place, row), item_M in zip(rows.items(), found, strict=True)
        }

    @functools.cached_property
    def _reach(self) -> Reach:
        assert self._q is not None
        return self._q.reach()

    def _penalised(self, row: _Row, item_M: Tensor) -> Tensor:
        """The scores by value, in float64."""
        parts = []
        for item_T in torch.split(item_M, _TILE):
            mean_1T, spread_1T = self.values(row.state_1D, item_T[None])
            parts.append((mean_1T / (1 + row.penalty * spread_1T))[0])
        return torch.cat(parts)

    def _known(self, ids: Iterable[str]) -> list[int]:
        index = self.model.index
        return [index[item] for item in ids if item in index]

    def values(self, state_BD: Tensor, item_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the Q-heads in float64 of M items a row, each B×M."""
        assert self._q is not None
        rows = max(1, _CACHED // max(1, item_BM.shape[1] * self._q.n_heads * state_BD.shape[1]))
        means, spreads = [], []
        for state_RD, item_RM in zip(torch.split(state_BD, rows), torch.split(item_BM, rows), strict=True):
            q_RMK = self._q.of_each(state_RD, item_RM)
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

    def _told(self, wanted: Wanted, row: _Row, pick: _Pick, facts: _Facts, fell_back: bool) -> Ranking:
        by, penalty = row.by, row.penalty
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


def _first(item_M: Tensor, score_M: Tensor, k: int) -> _Pick:
    """The k best of items that stand in order of their index."""
    score_M, place_M = score_M.sort(descending=True, stable=True)
    return _Pick(item_M[place_M[:k]].tolist(), score_M[:k].tolist())


def _blended(row: _Row, relevance: _Pick, value: _Pick, blend: float) -> _Pick:
    """The best by their places in two orders."""
    score: dict[int, float] = {}
    for share, pick in ((1 - blend, relevance), (blend, value)):
        for place, item in enumerate(pick.items):
            score[item] = score.get(item, 0.0) + share * (1 - place / POOL)
    best = sorted(score.items(), key=lambda pair: (-pair[1], pair[0]))[: row.k]
    if row.chosen_M is not None and len(best) < row.k:  # a list longer than the pool: the rest counts 0
        best += [(item, 0.0) for item in row.chosen_M.tolist() if item not in score][: row.k - len(best)]
    return _Pick([item for item, _ in best], [value for _, value in best])


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
