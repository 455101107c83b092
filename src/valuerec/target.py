"""What a critic learns from at s': a frozen copy of the network, or, with two networks, the other one.

A method does not know which. It asks `look` for the target's view of some next states, and the view for the best item
of the catalogue or for the values of given items.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from valuerec import ops
from valuerec.heads import FullHeads, QEnsemble
from valuerec.network import Network
from valuerec.tensors import under

_ROWS_AT_ONCE = 4096


class Search:
    """The best item of the catalogue by an ensemble's heads; knows what it may keep between two searches.

    Before any row has changed the heads are fresh: their contrasts tell nothing, and the mixture alone rules out.

    Args:
        heads: the ensemble.
        engine: how the catalogue-sized work is done.
        tracked: whether `changed` is told of every change, without which nothing may be kept.
    """

    def __init__(self, heads: QEnsemble, engine: ops.Engine, tracked: bool = True) -> None:
        self.heads, self.engine = heads, engine
        several = heads.n_heads > 1 and bool(heads.tables())  # one head has no spread to bound, dense rows all change
        self._sketches = tracked and several and engine == "native" and isinstance(heads, FullHeads)
        self._sketch: ops.Sketch | None = None
        self._fresh: ops.MixtureSketch | None = None
        self._changed_N = torch.zeros(heads.n_items if self._sketches else 0, dtype=torch.bool)

    def changed(self, items: Tensor) -> None:
        """The rows of some items, named once or more often, have new weights."""
        if self._sketches and len(items):
            self._changed_N[items], self._fresh = True, None
            if self._sketch is not None:
                self._sketch.update(*self.heads.whole(), torch.unique(items))

    def replaced(self, items: Tensor) -> None:
        """The weights are others now, and differ from fresh ones in these rows."""
        if self._sketches:
            self._sketch = self._fresh = None
            self._changed_N[items] = True

    @torch.no_grad()
    def best(self, state_BD: Tensor, mixture_K: Tensor, score: ops.Score, penalty: ops.Penalty | None) -> ops.Best:
        """The best score of each state over the whole catalogue.

        Args:
            state_BD: states.
            mixture_K: α.
            score: the formula to maximise, of mixture and spread.
            penalty: the same formula in a form that can be pruned, where it has one.
        """
        heads = self.heads
        fresh = self._sketches and not bool(self._changed_N.any())
        if penalty is not None and penalty.scale == 0 and self.engine != "plain" and (fresh or not self._sketches):
            return ops.Best(*ops.linear_maximum(state_BD, *heads.mixed(mixture_K)), 0.0, 0)
        if penalty is not None and self._sketches and ops.can_prune(penalty, heads.n_heads, state_BD.dtype):
            sketch = self._unsketched() if fresh else self._sketched()
            return ops.pruned_maximum(state_BD, *heads.whole(), mixture_K, penalty, sketch)
        if self.engine == "plain":
            value_B, item_B = ops.plain_maximum(state_BD, *heads.whole(), mixture_K, score)
        else:
            value_B, item_B = ops.tiled_maximum(heads.tiles(state_BD), mixture_K, score)
        return ops.Best(value_B, item_B, float(heads.n_items), len(state_BD))

    def _unsketched(self) -> ops.MixtureSketch:
        if self._fresh is None:
            self._fresh = ops.MixtureSketch(*self.heads.whole())
        return self._fresh

    def _sketched(self) -> ops.Sketch:
        if self._sketch is None:
            self._sketch = ops.Sketch(*self.heads.whole(), refined=False)
            self._sketch.update(*self.heads.whole(), self._changed_N.nonzero().flatten())
        return self._sketch


class Side(NamedTuple):
    """A critic at s': its search, and the states as it sees them."""

    search: Search
    state_RD: Tensor


class View:
    """The target at some next states s'.

    Args:
        judge: says what items are worth.
        chooser: the trained network there, asked for only where it chooses.
        double: whether by the protocol the trained network chooses the item that the target then judges (double
            Q-learning; van Hasselt et al., AAAI 2016), or the target does both.
    """

    def __init__(self, judge: Side, chooser: Callable[[], Side], double: bool) -> None:
        self.judge, self.chooser, self.double = judge, chooser, double

    @torch.no_grad()
    def best(
        self, mixture_K: Tensor, score: ops.Score, penalty: ops.Penalty | None, double: bool | None = None
    ) -> ops.Best:
        """The target's score of the best item of each row.

        Args:
            mixture_K: α, of the judge; a chooser of its own weighs all heads alike.
            score: the formula, of mixture and spread, that both maximise.
            penalty: see `Search.best`.
            double: who chooses; None for what the protocol has.
        """
        if not (self.double if double is None else double):
            return self.judge.search.best(self.judge.state_RD, mixture_K, score, penalty)
        even_K = torch.full_like(mixture_K, 1 / len(mixture_K))
        search, state_RD = self.chooser()
        chosen = search.best(state_RD, even_K, score, penalty)
        q_RK = self.of(chosen.item_B)
        return chosen._replace(value_B=score(q_RK @ mixture_K, q_RK.std(dim=1, correction=0)))

    @torch.no_grad()
    def of(self, item_R: Tensor) -> Tensor:
        """The target's Q_k(s', a) of one item a row, R×K."""
        return self.judge.search.heads.of(self.judge.state_RD, item_R)


class AnyTarget(Protocol):
    """What a method is given as its target."""

    def look(self, network: Network, items_RL: Tensor, length_R: Tensor) -> View:
        """The view of next states, for the network that is trained."""


class Target(nn.Module):
    """A frozen copy of backbone and Q ensemble (the paper's Q_T), without dropout and without gradient."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        if network.q_head is None:
            raise ValueError("a network without a critic has no target")
        self.backbone = copy.deepcopy(network.backbone)
        self.q_head = copy.deepcopy(network.q_head)
        self.search = Search(self.q_head, network.engine)
        self.requires_grad_(False).eval()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take over weights, of a run that began with the present ones."""
        changed = rows_that_differ(self.q_head, under("q_head.", state_dict))
        answer = super().load_state_dict(state_dict, strict, assign)
        self.search.replaced(changed)
        return answer

    @torch.no_grad()
    def copy_from(self, network: Network) -> None:
        """Take over the network's present weights; of the Q ensemble, the rows that have changed."""
        assert network.q_head is not None
        for own, other in zip(self.backbone.state_dict().values(), network.backbone.state_dict().values(), strict=True):
            own.copy_(other)
        tables = set(self.q_head.tables())
        theirs = dict(network.q_head.named_parameters())
        changed = rows_that_differ(self.q_head, theirs)
        for name, own in self.q_head.named_parameters():
            if own not in tables:
                own.copy_(theirs[name])
                continue
            for rows in torch.split(changed, _ROWS_AT_ONCE):
                own[rows] = theirs[name][rows]
        self.search.changed(changed)

    @torch.no_grad()
    def look(self, network: Network, items_RL: Tensor, length_R: Tensor) -> View:
        """The copy judges, and chooses too unless a method has it otherwise."""
        judge = Side(self.search, self.backbone(items_RL, length_R))
        return View(judge, lambda: _without_dropout(network, items_RL, length_R), double=False)


class Pair:
    """Two networks, each the other's target (the released code): dropout on in both, no gradient through the target.

    Args:
        first: a network with a critic.
        second: another, of the same shape.
    """

    def __init__(self, first: Network, second: Network) -> None:
        self.networks = (first, second)
        self.searches = tuple(Search(_critic(network), network.engine) for network in self.networks)

    @torch.no_grad()
    def look(self, network: Network, items_RL: Tensor, length_R: Tensor) -> View:
        """The network that is trained chooses, the other one judges."""
        main = 0 if network is self.networks[0] else 1
        other = 1 - main
        judge = Side(self.searches[other], self.networks[other].state(items_RL, length_R))
        return View(judge, lambda: Side(self.searches[main], network.state(items_RL, length_R)), double=True)


@torch.no_grad()
def _without_dropout(network: Network, items_RL: Tensor, length_R: Tensor) -> Side:
    mode = network.training
    state_RD = network.eval().state(items_RL, length_R)
    network.train(mode)
    return Side(Search(_critic(network), network.engine, tracked=False), state_RD)


def _critic(network: Network) -> QEnsemble:
    assert network.q_head is not None
    return network.q_head


@torch.no_grad()
def rows_that_differ(heads: QEnsemble, others: Mapping[str, Tensor]) -> Tensor:
    """The items whose rows of the heads' row-sparse tables are not those of tensors of the same names."""
    tables = set(heads.tables())
    pairs = [(own, others[name]) for name, own in heads.named_parameters() if own in tables]
    found = [torch.empty(0, dtype=torch.int64)]
    for start in range(0, heads.n_items if pairs else 0, _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        differs_T = torch.stack([(own[part] != other[part]).any(dim=1) for own, other in pairs]).any(dim=0)
        found.append(differs_T.nonzero().flatten() + start)
    return torch.cat([rows.to(found[-1].device) for rows in found])
