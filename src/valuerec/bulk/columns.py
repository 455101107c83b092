"""The same ranking as `Model.answers`, as arrays: no Python object an item, and nothing that is not told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from valuerec.model import Model


class Known(NamedTuple):
    """Sessions as the indices of their known items, oldest first, laid end to end.

    Session b is `item_E[offset_B[b] : offset_B[b + 1]]`; `offset_B` has one number more than there are sessions.
    """

    item_E: NDArray[np.int32]
    offset_B: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offset_B) - 1

    def split(self, size: int) -> Iterator[Known]:
        """Portions of at most `size` sessions."""
        for start in range(0, len(self), size):
            offset_B = self.offset_B[start : start + size + 1]
            yield Known(self.item_E[offset_B[0] : offset_B[-1]], offset_B - offset_B[0])


class Columns(NamedTuple):
    """What B sessions are recommended, laid end to end: the first `count_B[0]` numbers are the first session's.

    `value_F` and `spread_F` (the standard deviation of the Q-heads) are None without a critic.
    """

    count_B: NDArray[np.int64]
    item_F: NDArray[np.int64]
    score_F: NDArray[np.float64]
    value_F: NDArray[np.float64] | None
    spread_F: NDArray[np.float64] | None


@torch.inference_mode()
def rank(model: Model, known: Known, k: int, exclude_seen: bool) -> Columns:
    """The k best items of each session, the best first, ties by the lower id; the items that `Model.answers` gives.

    Args:
        model: what ranks.
        known: B sessions; without the compiled kernels B × N scores are held at once.
        k: items a session; fewer where the catalogue, less what is excluded, is smaller.
        exclude_seen: leave out the items of the session itself.
    """
    engine = model.engine
    state_BD = engine.encode(*histories(known, model.network.window, model.network.n_items))
    hidden_B = [
        set(items.tolist()) if exclude_seen else set() for items in np.split(known.item_E, known.offset_B[1:-1])
    ]
    best = engine.head.best(state_BD, [k] * len(known), hidden_B)
    there_Bk = best.score_Bk > -torch.inf
    by_items = model.recommends_by == "items"
    score_Bk = (best.score_Bk - best.log_sum_B[:, None]).exp() if by_items else best.score_Bk
    value_F = spread_F = None
    if engine.has_values:
        value_Bk, spread_Bk = engine.values(state_BD, best.item_Bk.clamp(min=0))
        value_F, spread_F = value_Bk[there_Bk].numpy(), spread_Bk[there_Bk].numpy()
    return Columns(
        there_Bk.sum(dim=1).numpy(),
        best.item_Bk[there_Bk].numpy(),
        score_Bk[there_Bk].numpy(),
        value_F,
        spread_F,
    )


def histories(known: Known, window: int, n_items: int) -> tuple[Tensor, Tensor]:
    """What a backbone is given of sessions, as `Model.histories` gives it: items[B, L] and lengths[B]."""
    length_B = np.minimum(np.diff(known.offset_B), window)
    place_L = np.arange(window)
    there_BL = place_L < length_B[:, None]
    items_BL = np.full(there_BL.shape, n_items, dtype=np.int32)
    place_BL = (known.offset_B[1:] - length_B)[:, None] + place_L
    items_BL[there_BL] = known.item_E[place_BL[there_BL]]
    return torch.from_numpy(items_BL), torch.from_numpy(np.maximum(length_B, 1).astype(np.int32))
