"""From sessions to ranked items, by one model: exact, and without knowing of HTTP.

Three orders of the catalogue, each the one a scan in float64 would give, ties by id:
- relevance: the item head;
- value: the mean of the Q-heads, times W = 1 / (1 + λ · SD of the heads) where λ > 0 (equations 2 and 3 of the paper);
- blend b: (1 − b) times the place by relevance plus b times the place by value, where the first place counts 1 and each
  further one 1/POOL less, down to 0. Places are counted among the items that may be recommended at all.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor

from valuerec.errors import UsageError
from valuerec.heads import FullHeads, QEnsemble
from valuerec.model import Model
from valuerec.ops import LinearHead

RankBy = Literal["relevance", "value", "blend"]
POOL: Final = 1000  # places that count in a blend; also the most that can be asked for
PENALTY: Final = 20.0  # λ of a model whose method has none (the paper's)
_NUMBERS: Final = 1 << 24  # of one batch of scores
_TILE: Final = 1 << 13


class NoValuesError(UsageError):
    """An order by value was asked of a model without a critic."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What one session wants.

    Args:
        session: item ids, oldest first; those the model does not know are passed over.
        k: items, 1 to `POOL`.
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


class _Row(NamedTuple):
    """One session beside its row of scores."""

    state_1D: Tensor
    logit_1N: Tensor  # -inf where an item must not be
    mean_1N: Tensor | None
    normaliser: float


class Engine:
    """Ranks by one model.

    Args:
        model: what ranks.
        max_disagreement: an order by value is not given where, for every item of it, SD > max_disagreement · |value|.
    """

    def __init__(self, model: Model, max_disagreement: float = 1.0) -> None:
        self.model, self.max_disagreement = model, max_disagreement
        network = model.network
        self._items = LinearHead(network.item_head.weight_ND, network.item_head.bias_N)
        self._q = network.q_head
        self._means = LinearHead(*_mean_head(self._q), extra=2) if self._q is not None else None
        options = model.config["method"]
        self.penalty = float(options.get("penalty", PENALTY))
        self.most_rows = max(1, _NUMBERS // network.n_items)

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
        rankings: list[Ranking] = []
        for start in range(0, len(wanted), self.most_rows):
            rankings += self._block(wanted[start : start + self.most_rows])
        return rankings

    def _block(self, wanted: Sequence[Wanted]) -> list[Ranking]:
        for each in wanted:
            self.check(each)
        index = self.model.index
        known = [[index[item] for item in each.session if item in index] for each in wanted]
        state_BD = self.model.state(known)
        logit_BN = self._items.screen(state_BD)
        normaliser_B = logit_BN.logsumexp(dim=1).tolist()
        valued = [row for row, each in enumerate(wanted) if self._order(each)[0] != "relevance"]
        mean_of: dict[int, Tensor] = {}
        if valued and self._means is not None:
            mean_VN = self._means.screen(state_BD[valued])
            mean_of = {row: mean_VN[place : place + 1] for place, row in enumerate(valued)}
        rankings: list[Ranking | None] = [None] * len(wanted)
        plain = [row for row in range(len(wanted)) if _is_plain(wanted[row]) and row not in mean_of]
        if plain:
            k = max(wanted[row].k for row in plain)
            whole = len(plain) == len(wanted)
            state_PD, logit_PN = (state_BD, logit_BN) if whole else (state_BD[plain], logit_BN[plain])
            best = self._items.top(state_PD, logit_PN, min(k, logit_BN.shape[1]))
            for place, row in enumerate(plain):
                mine = slice(0, wanted[row].k)
                rankings[row] = self._told(
                    wanted[row],
                    known[row],
                    best.item_Bk[place, mine],
                    best.score_Bk[place, mine],
                    _Row(state_BD[row : row + 1], logit_BN[row : row + 1], None, normaliser_B[row]),
                )
        for row, each in enumerate(wanted):
            if rankings[row] is None:
                one = slice(row, row + 1)
                mine_row = _Row(state_BD[one], logit_BN[one], mean_of.get(row), normaliser_B[row])
                rankings[row] = self._alone(each, known[row], mine_row)
        return [ranking for ranking in rankings if ranking is not None]

    def _order(self, wanted: Wanted) -> tuple[RankBy, float]:
        """The order, and λ."""
        penalty = self.penalty if wanted.penalty is None else wanted.penalty
        if wanted.rank_by is None:
            return ("relevance", penalty) if self.model.recommends_by == "items" else ("value", 0.0)
        return wanted.rank_by, penalty

    def _alone(self, wanted: Wanted, known: list[int], row: _Row) -> Ranking:
        chosen = self._chosen(wanted)
        if chosen is None:
            hidden = self._hidden(wanted, known)
            row.logit_1N[:, hidden] = -torch.inf
            if row.mean_1N is not None:
                row.mean_1N[:, hidden] = -torch.inf
            n_items = row.logit_1N.shape[1] - len(hidden)
        else:
            hidden_set = set(self._hidden(wanted, known))
            chosen = [item for item in chosen if item not in hidden_set]
            n_items = len(chosen)
        k = min(wanted.k if wanted.candidates is None else n_items, n_items)
        if k == 0:
            empty = torch.empty(0)
            return self._told(wanted, known, empty.long(), empty.double(), row)
        pick = _Among(self, row, chosen)
        by, penalty = self._order(wanted)
        if by != "relevance":
            item_k, score_k = pick.by_value(k, penalty) if by == "value" else pick.by_blend(k, penalty, wanted.blend)
            if not self._all_unsure(row, item_k):
                return self._told(wanted, known, item_k, score_k, row)
        item_k, score_k = pick.by_relevance(k)
        return self._told(wanted, known, item_k, score_k, row, fell_back=by != "relevance")

    def _chosen(self, wanted: Wanted) -> list[int] | None:
        """The items among which is chosen, in order of their index; None for the catalogue."""
        if wanted.candidates is None and wanted.allow is None:
            return None
        among = set(self._known(wanted.candidates if wanted.candidates is not None else wanted.allow or ()))
        if wanted.candidates is not None and wanted.allow is not None:
            among &= set(self._known(wanted.allow))
        return sorted(among)

    def _hidden(self, wanted: Wanted, known: list[int]) -> list[int]:
        hidden = set(self._known(wanted.block))
        return sorted(hidden | set(known) if wanted.exclude_seen else hidden)

    def _known(self, ids: Iterable[str]) -> list[int]:
        index = self.model.index
        return [index[item] for item in ids if item in index]

    def q(self, state_1D: Tensor, item_M: Tensor) -> Tensor:
        """Q_k in float64 of M items at one state, M×K."""
        assert self._q is not None
        return self._q.of_each(state_1D.double(), item_M[None])[0]

    def _all_unsure(self, row: _Row, item_k: Tensor) -> bool:
        q_kK = self.q(row.state_1D, item_k)
        return bool((q_kK.std(dim=1, correction=0) > self.max_disagreement * q_kK.mean(dim=1).abs()).all())

    def _told(
        self,
        wanted: Wanted,
        known: list[int],
        item_k: Tensor,
        score_k: Tensor,
        row: _Row,
        fell_back: bool = False,
    ) -> Ranking:
        by, penalty = self._order(wanted)
        fallback = None
        if fell_back:
            fallback = (
                f"Ranked by relevance, because for every item that {by} would recommend the heads' standard deviation is "
                f"above {self.max_disagreement:g} times its value."
            )
            by = "relevance"
        logit_k = self._items.exact(row.state_1D, item_k[None])[0]
        relevance = (logit_k - row.normaliser).exp().tolist()
        score = relevance if by == "relevance" else score_k.tolist()
        ids = self.model.item_ids
        items = [ids[item] for item in item_k.tolist()]
        index = self.model.index
        asked = [*wanted.session, *(wanted.candidates or ())]
        unknown = list(dict.fromkeys(item for item in asked if item not in index))
        if self._q is None:
            told = [Scored(*each, None, None, None) for each in zip(items, score, relevance, strict=True)]
            return Ranking(told, by, fallback, unknown)
        q_kK = self.q(row.state_1D, item_k)
        value, spread = q_kK.mean(dim=1).tolist(), q_kK.std(dim=1, correction=0).tolist()
        weight = [1 / (1 + penalty * each) for each in spread]
        told = [Scored(*each) for each in zip(items, score, relevance, value, spread, weight, strict=True)]
        return Ranking(told, by, fallback, unknown)


class _Among:
    """The best items of one row, of the catalogue or of a list."""

    def __init__(self, engine: Engine, row: _Row, chosen: list[int] | None) -> None:
        self.engine, self.row = engine, row
        self.chosen_M = None if chosen is None else torch.tensor(chosen, dtype=torch.int64)
        self.n_items = row.logit_1N.shape[1] if chosen is None else len(chosen)

    def by_relevance(self, k: int) -> tuple[Tensor, Tensor]:
        """The k best by the item head."""
        head = self.engine._items
        if self.chosen_M is None:
            best = head.top(self.row.state_1D, self.row.logit_1N, k)
            return best.item_Bk[0], best.score_Bk[0]
        return _sorted(self.chosen_M, head.exact(self.row.state_1D, self.chosen_M[None])[0], k)

    def by_value(self, k: int, penalty: float) -> tuple[Tensor, Tensor]:
        """The k best by the penalised mean.

        W is at most 1, so an item's score is at most its mean, or 0 where that is negative: once the k-th best score of
        the items with the highest means is above all other means, those others are not among the best.
        """
        if self.chosen_M is not None:
            return _sorted(self.chosen_M, self._penalised(self.chosen_M, penalty), k)
        means, mean_1N = self.engine._means, self.row.mean_1N
        assert means is not None and mean_1N is not None
        if penalty == 0:
            best = means.top(self.row.state_1D, mean_1N, k)
            return best.item_Bk[0], best.score_Bk[0]
        error = float(means.error(self.row.state_1D))
        looked = 2 * k + 32
        while looked < self.n_items:
            found = torch.topk(mean_1N[0], looked)
            item_M = found.indices[found.values > -torch.inf].sort().values
            item_k, score_k = _sorted(item_M, self._penalised(item_M, penalty), k)
            others = float(found.values[-1])
            if others == -math.inf or (len(score_k) == k and float(score_k[-1]) > max(others + error, 0.0)):
                return item_k, score_k
            looked *= 4
        item_M = (mean_1N[0] > -torch.inf).nonzero().flatten()
        return _sorted(item_M, self._penalised(item_M, penalty), k)

    def by_blend(self, k: int, penalty: float, blend: float) -> tuple[Tensor, Tensor]:
        """The k best by (1 − b) · place by relevance + b · place by value."""
        pool = min(POOL, self._left())
        score: dict[int, float] = {}
        for share, item_P in ((1 - blend, self.by_relevance(pool)[0]), (blend, self.by_value(pool, penalty)[0])):
            for place, item in enumerate(item_P.tolist()):
                score[item] = score.get(item, 0.0) + share * (1 - place / POOL)
        best = sorted(score.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
        if self.chosen_M is not None and len(best) < k:  # a list longer than the pool: the rest counts 0
            best += [(item, 0.0) for item in self.chosen_M.tolist() if item not in score][: k - len(best)]
        items, scores = zip(*best, strict=True)
        return torch.tensor(items), torch.tensor(scores, dtype=torch.float64)

    def _left(self) -> int:
        if self.chosen_M is not None:
            return self.n_items
        return int((self.row.logit_1N > -torch.inf).sum())

    def _penalised(self, item_M: Tensor, penalty: float) -> Tensor:
        parts = []
        for item_T in item_M.split(_TILE):
            q_TK = self.engine.q(self.row.state_1D, item_T)
            parts.append(q_TK.mean(dim=1) / (1 + penalty * q_TK.std(dim=1, correction=0)))
        return torch.cat(parts)


def _is_plain(wanted: Wanted) -> bool:
    """Whether the whole catalogue may be recommended."""
    return not wanted.exclude_seen and not wanted.block and wanted.allow is None and wanted.candidates is None


def _sorted(item_M: Tensor, score_M: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of items that stand in order of their index."""
    score_M, place_M = score_M.sort(descending=True, stable=True)
    return item_M[place_M[:k]], score_M[:k]


def _mean_head(q_head: QEnsemble) -> tuple[Tensor, Tensor]:
    """The mean of the heads, rounded once from float64."""
    with torch.inference_mode():
        if isinstance(q_head, FullHeads):
            weight_ND = [tile_TKD.double().mean(dim=1).float() for tile_TKD in q_head.weight_NKD.split(_TILE)]
            return torch.cat(weight_ND), q_head.bias_NK.double().mean(dim=1).float()
        weight, bias = copy.deepcopy(q_head).double().mean()
        return weight.float(), bias.float()
