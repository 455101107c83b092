"""A run that starts from an earlier run's weights, on a catalogue that has gained and lost items since.

An item that stayed, by its id, keeps its rows byte for byte; the rest of the network is copied; moments start anew. A
new item is nothing in particular yet, and uncertain:

- Its vector and its row of the item head are the mean of all old rows, beside the small random numbers of a fresh
  network. At any state its logit is then about the mean logit of the old items, so its probability, by convexity, is
  about their mean or less; a fresh row's, 0, is above most (docs/log.md).
- Each of its K > 1 full Q-heads is that head of an old item, drawn at random for each head: K guesses which item it
  is like. Its mean value is the catalogue's. With Q_ik the value of item i by head k at a state, m_k the mean over
  items of Q_ik, and v̄ the mean over heads of Var_i Q_ik, the expected variance of its heads is Var_k m_k + (1 − 1/K) v̄.
  The old items' mean variance is Var_k m_k + v̄ − Var_i(mean_k Q_ik): no more than that, where the heads' values of
  items do not correlate negatively. So a penalty takes a new item for at least as uncertain as an old one. The mean row
  in its place would average the heads' disagreement away, and W of equation 3 would call new items certain.
- Factored heads share their items: a new one is an old item's row, drawn at random, and as uncertain as that one. One
  head has no uncertainty: the mean row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.folders import check_whole
from valuerec.heads import FullHeads
from valuerec.network import Network
from valuerec.tensors import load_tensors
from valuerec.training.config import TrainConfig
from valuerec.training.order import step_seed
from valuerec.training.run import Run, describe

Shapes = Mapping[str, torch.Size]

_DRAW: Final = -100  # no step has this number, and no fresh network
_PARTS: Final = ("backbone", "method", "rewards", "training")
_METHOD_FIXED: Final = ("name", "heads", "ensemble", "discount")
_TRAINING_FIXED: Final = ("window", "reward_transform")
_TOLD: Final = ("protocol",)  # of the training options that may differ, those worth a word
_FEW: Final = 0.5


class Growth:
    """What an earlier run gives a new one to start with.

    Args:
        run: the earlier RUN folder.
        config: the new run.
        dataset: what it will learn from.
        network: its fresh network.

    Raises:
        UsageError: where `run` is no run, backbone, method, rewards or window are others, or no item stayed.
        ValuerecError: where it has no weights, or its files are damaged.
    """

    def __init__(self, run: str | Path, config: TrainConfig, dataset: Dataset, network: Network) -> None:
        self.parent = Run(run)
        if not self.parent.manifest["weights"]:
            raise ValuerecError(f"{run} has no weights yet to start from; let training reach its first validation.")
        check_whole(self.parent.path, self.parent.manifest)
        now = json.loads(json.dumps(describe(config, dataset)))
        if trouble := self._others(now, fixed=True):
            raise UsageError(
                f"{run} can't be the start of this run: it was trained with {', '.join(trouble)}; give the same, or "
                "train anew without --from."
            )
        self._changed = self._others(now, fixed=False)
        ids = self.parent.item_ids
        place = {item: index for index, item in enumerate(ids)}
        self._place_N = torch.tensor([place.get(item, -1) for item in dataset.item_ids])
        self._old_items = len(ids)
        self._draw = torch.Generator().manual_seed(step_seed(config.seed, _DRAW))
        self.stayed = int((self._place_N >= 0).sum())
        self.new, self.retired = dataset.n_items - self.stayed, len(ids) - self.stayed
        if not self.stayed:
            raise UsageError(
                f"{run} and {dataset.path} have no item in common ({_some(ids)} there, {_some(dataset.item_ids)} "
                "here); name a run of this shop, or train anew without --from."
            )
        self._tables = self._item_tables(config, network)

    def _others(self, now: Mapping[str, Any], fixed: bool) -> list[str]:
        """The options that the earlier run had otherwise: those that weights mean nothing without, or the others."""
        before = {part: dict(self.parent.config[part]) for part in _PARTS}
        kinds = dict.fromkeys([*before["rewards"], *now["rewards"]], "none")  # a kind that one of the two has not
        before["rewards"], now = kinds | before["rewards"], {**now, "rewards": kinds | now["rewards"]}
        return [
            f"{part} {name} = {before[part][name]!r} (here {value!r})"
            for part in _PARTS
            for name, value in now[part].items()
            if before[part].get(name, value) != value
            and (_is_fixed(part, name) if fixed else part != "training" or name in _TOLD)
        ]

    @property
    def record(self) -> dict[str, Any]:
        """Where the new run started, for its config.json."""
        manifest = self.parent.manifest
        return {
            "run": str(self.parent.path.resolve()),
            "dataset": self.parent.config["dataset"]["fingerprint"],
            "weights": manifest["weights"],
            "sha256": manifest["files"][manifest["weights"]]["sha256"],
            "step": manifest["step"],
            "items": {"stayed": self.stayed, "new": self.new, "retired": self.retired},
        }

    @property
    def lines(self) -> list[str]:
        """What a person should know of it: which items stayed, and what is to be wondered at."""
        told = [
            f"Starting from {self.parent.path}, weights of step {self.parent.manifest['step']}: of its "
            f"{self._old_items:,} items {self.stayed:,} stay and keep their weights, {self.retired:,} are retired, "
            f"{self.new:,} are new."
        ]
        if self._changed:
            told.append(f"Note: it was trained with {', '.join(self._changed)}.")
        share = self.stayed / min(self._old_items, len(self._place_N))
        if share < _FEW:
            told.append(
                f"Warning: only {share:.1%} of the smaller catalogue is in the other one; is {self.parent.path} a run "
                "of this shop, with its ids spelled alike?"
            )
        return told

    @cached_property
    def _old(self) -> dict[str, Tensor]:
        return load_tensors(self.parent.path / self.parent.manifest["weights"], torch.device("cpu"))

    def _item_tables(self, config: TrainConfig, network: Network) -> set[str]:
        """The names of the weights with a row an item: their shape tells, beside that for a catalogue of another size.

        Raises:
            UsageError: where the earlier weights do not fit.
        """
        now, before = _shapes(network.state_dict()), _shapes(self._old)
        if odd := sorted(now.keys() ^ before.keys()):
            raise self._unfit(f"only one of the two has {', '.join(odd[:3])}")
        items, old_items = len(self._place_N), self._old_items
        other, other_items = before, old_items
        if items == old_items:
            other_items = 2 if items > 2 else items + 1
            probe = config.method.network(config.backbone, other_items, config.window)
            other = _shapes(probe.state_dict())
        tables = {name for name, shape in now.items() if shape != other[name]}
        for name, shape in now.items():
            if name not in tables:
                fits = before[name] == shape
            else:
                rows, other_rows = (_rows(each[name]) for each in (now, other))
                fits = rows - items == other_rows - other_items >= 0 and before[name][1:] == shape[1:]
            if not fits:
                raise self._unfit(f"{name} is of shape {tuple(before[name])} there, here {tuple(shape)}")
        return tables

    def _unfit(self, how: str) -> UsageError:
        return UsageError(
            f"The weights of {self.parent.path} do not fit this network ({how}); train with the same backbone, method "
            "and heads, or anew without --from. Weights may depend on the catalogue by their rows alone, one an item."
        )

    @torch.no_grad()
    def weights(self, network: Network) -> dict[str, Tensor]:
        """The weights to start with, of a fresh network; another network gets other random numbers."""
        heads = network.q_head
        new_M = (self._place_N < 0).nonzero().flatten()
        parts = heads.n_heads if isinstance(heads, FullHeads) else 1
        donor_MK = torch.randint(self._old_items, (len(new_M), parts), generator=self._draw)
        several = heads is not None and heads.n_heads > 1
        grown = {}
        for name, fresh in network.state_dict().items():
            old = self._old[name].to(fresh.device)
            if name not in self._tables:
                grown[name] = old
                continue
            grown[name] = self._moved(old, fresh)
            if several and name.startswith("q_head."):
                grown[name][new_M] = _donated(old, donor_MK)
            elif old.is_floating_point():
                grown[name][new_M] += old[: self._old_items].mean(dim=0)
        return grown

    def _moved(self, old: Tensor, fresh: Tensor) -> Tensor:
        """A table with the old rows of the items that stayed, and of what stands after the items; fresh ones else."""
        moved = fresh.clone()
        stayed = (self._place_N >= 0).nonzero().flatten()
        moved[stayed] = old[self._place_N[stayed]]
        moved[len(self._place_N) :] = old[self._old_items :]
        return moved


def _donated(old: Tensor, donor_MK: Tensor) -> Tensor:
    """Rows of which each of K parts is a donor's."""
    n_items, parts = donor_MK.shape
    return old.view(len(old), parts, -1)[donor_MK, torch.arange(parts)].reshape(n_items, *old.shape[1:])


def _is_fixed(part: str, name: str) -> bool:
    """Whether weights mean something else under another value of an option: its shape, its rewards, its discount."""
    if part == "method":
        return name in _METHOD_FIXED
    if part == "training":
        return name in _TRAINING_FIXED
    return part == "rewards" or name != "dropout"


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: value.shape for name, value in tensors.items()}


def _rows(shape: torch.Size) -> int:
    return shape[0] if shape else 0


def _some(ids: list[str]) -> str:
    return ", ".join(repr(item) for item in ids[:2])
