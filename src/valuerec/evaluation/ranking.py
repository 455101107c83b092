"""The exact rank of each held-out item among the whole catalogue, by counting.

rank = 1 + how many other items score at least as much: ties count against us, and nothing is sorted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from valuerec.dataset import Dataset, Part
from valuerec.network import Network, Recommend
from valuerec.ops import native

_STATES_AT_ONCE = 1024
_SCORES_AT_ONCE = 1 << 24  # numbers of the one score buffer: 64 MiB; a product of fewer rows takes longer a row


def plain_count_rank(score_BN: Tensor, item_B: Tensor) -> Tensor:
    """The reference, on any device. See `count_rank`."""
    own_B1 = score_BN.gather(1, item_B.unsqueeze(1))
    # "not below" rather than "at least": a NaN on either side counts against us too.
    return (~(score_BN < own_B1)).sum(dim=1)


def count_rank(score_BN: Tensor, item_B: Tensor) -> Tensor:
    """The rank, from 1, of one item a row; NaN scores rank last.

    Args:
        score_BN: scores of the whole catalogue.
        item_B: the item to rank (int64).
    """
    fits = score_BN.device.type == "cpu" and score_BN.dtype == torch.float32 and score_BN.is_contiguous()
    if not fits or native.why_not():
        return plain_count_rank(score_BN, item_B)
    own_B = score_BN.gather(1, item_B.unsqueeze(1)).squeeze(1)
    rank_B = torch.empty(len(item_B), dtype=torch.int64)
    native.call("valuerec_count_not_below", *score_BN.shape, score_BN, own_B, rank_B)
    return rank_B


@torch.inference_mode()
def ranks(
    network: Network,
    dataset: Dataset,
    split: Part,
    device: torch.device,
    progress: Callable[[int], None] | None = None,
    by: Recommend = "items",
) -> NDArray[np.int64]:
    """The rank of each event's item, in the order of the split.

    Args:
        network: the model, put into evaluation mode for the time.
        dataset: the events.
        split: which of them.
        device: where the network is.
        progress: told after each batch how many events are done.
        by: what orders the catalogue: the item head, or the mean of the Q-heads (`Network.ranker`).

    Returns:
        rank_E from 1 to N. Memory beside the result: one buffer of 64 MiB (one row of N where that is more).
    """
    events = dataset.events_of(split)
    n_items = dataset.n_items
    rows = max(1, min(_STATES_AT_ONCE, _SCORES_AT_ONCE // n_items))
    states = rows * (_STATES_AT_ONCE // rows)  # no product of few rows at a batch's end
    buffer = torch.empty(rows * n_items, device=device)
    rank_E = np.empty(len(events), dtype=np.int64)
    weight_ND, bias_N = network.ranker(by)
    counted = count_rank if network.engine == "native" else plain_count_rank
    was_training = network.training
    network.eval()
    for start in range(0, len(events), states):
        number_B = np.arange(events.start + start, min(events.start + start + states, events.stop))
        batch = dataset.transitions(number_B, network.window, None)
        state_BD = network.state(_tensor(batch.state_BL, device), _tensor(batch.length_B, device))
        action_B = _tensor(batch.action_B, device)
        for first in range(0, len(number_B), rows):
            part = slice(first, min(first + rows, len(number_B)))
            score_BN = buffer[: (part.stop - first) * n_items].view(part.stop - first, n_items)
            torch.addmm(bias_N, state_BD[part], weight_ND.t(), out=score_BN)
            rank_E[start + first : start + part.stop] = counted(score_BN, action_B[part]).cpu().numpy()
        if progress:
            progress(start + len(number_B))
    network.train(was_training)
    return rank_E


def _tensor(array: NDArray[np.generic], device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device)
