"""How a critic's values are spread over held-out logged actions: small histograms that a cell keeps."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from valuerec.dataset import Dataset
from valuerec.network import Network

BINS: Final = 24
_STATES_AT_ONCE: Final = 1024
_EVENTS: Final = 20_000  # of the validation split; more change nothing to be seen

Histogram = dict[str, Any]


@torch.inference_mode()
def value_histograms(network: Network, dataset: Dataset, penalty: float | None) -> dict[str, Histogram] | None:
    """Histograms over the validation split's logged actions; None for a network without a critic.

    Args:
        network: trained, in evaluation mode.
        dataset: the events.
        penalty: λ of equation 3, where the method has one.

    Returns:
        `value` (mean of the heads), `spread` (their population standard deviation) and, with a penalty,
        `weight` (equation 3), each `{"low", "high", "mean", "counts"}` with BINS equal bins.
    """
    if network.q_head is None:
        return None
    device = network.item_head.weight_ND.device
    events = dataset.events_of("validation")
    number_E = np.arange(events.start, min(events.stop, events.start + _EVENTS))
    parts = []
    for number_B in np.array_split(number_E, -(-len(number_E) // _STATES_AT_ONCE)):
        rows = dataset.transitions(number_B, network.window, None)
        state_BL, length_B, action_B = (
            torch.from_numpy(array).to(device) for array in (rows.state_BL, rows.length_B, rows.action_B)
        )
        parts.append(network.q_head.of(network.state(state_BL, length_B), action_B))
    q_EK = torch.cat(parts)
    spread_E = q_EK.std(dim=1, correction=0)
    shown = {"value": q_EK.mean(dim=1), "spread": spread_E}
    if penalty is not None:
        shown["weight"] = 1 / (1 + penalty * spread_E)
    return {name: _histogram(value_E.cpu().numpy()) for name, value_E in shown.items()}


def _histogram(value_E: NDArray[np.float32]) -> Histogram:
    """Counts in equal bins between the 0.1th and the 99.9th percentile; what lies outside counts in the outermost."""
    low, high = (float(edge) for edge in np.quantile(value_E, (0.001, 0.999)))
    counts, _ = np.histogram(value_E.clip(low, high), bins=BINS, range=(low, high))
    return {"low": low, "high": high, "mean": float(value_E.mean()), "counts": counts.tolist()}
