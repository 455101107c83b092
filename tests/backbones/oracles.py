"""Every backbone once more, from its table in the protocol, in float64 NumPy and with everything padded and masked.

An oracle takes the weights by name, a history (oldest first, at most as long as the window), the catalogue's size N and
the window L, and answers the state. `drop` stands where the backbone has dropout. The tests in this folder find it
under the backbone's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, Array]
Oracle = Callable[..., Array]
Drop = Callable[[Array], Array]


def padded(items: Sequence[int], n_items: int, window: int) -> tuple[NDArray[np.int64], Array]:
    """The window and its mask (a column)."""
    row = np.array([*items, *[n_items] * (window - len(items))])
    return row, (row != n_items).astype(float)[:, None]


def norm(x: Array, p: Weights, name: str) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    answer: Array = centred / np.sqrt(variance + 1e-8) * p[f"{name}.weight"] + p[f"{name}.bias"]
    return answer


def linear(x: Array, p: Weights, name: str) -> Array:
    answer: Array = x @ p[f"{name}.weight"].T + p[f"{name}.bias"]
    return answer


def keep(x: Array) -> Array:
    """Dropout in evaluation mode."""
    return x


def sasrec(p: Weights, items: Sequence[int], n_items: int, window: int, drop: Drop = keep) -> Array:
    """The whole block at every place."""
    row, mask = padded(items, n_items, window)
    x = drop(p["item.weight"][row] + p["position"]) * mask
    queries = norm(x, p, "query_norm")
    match = linear(queries, p, "query") @ linear(x, p, "key").T / np.sqrt(x.shape[1])
    match = np.where(mask.T == 0, -(2.0**32), match)
    match = np.where(np.tril(np.ones((window, window))) == 0, -(2.0**32), match)
    attention = np.exp(match - match.max(axis=1, keepdims=True))
    attention = attention / attention.sum(axis=1, keepdims=True) * mask
    x = attention @ linear(x, p, "value") + queries
    x = x + drop(linear(drop(np.maximum(linear(x, p, "feed"), 0)), p, "forth"))
    states = norm(x * mask, p, "state_norm")
    return np.asarray(states[max(len(items), 1) - 1])


def nextitnet(p: Weights, items: Sequence[int], n_items: int, window: int) -> Array:
    """All places, a tap at a time, the mask on the items and after each block."""
    row, mask = padded(items, n_items, window)

    def convolution(x: Array, name: str, dilation: int) -> Array:
        width = x.shape[1]
        weight = p[f"{name}.taps.weight"].reshape(width, 3, width)
        answer = np.zeros_like(x)
        for place in range(window):
            answer[place] = p[f"{name}.taps.bias"]
            for tap in range(3):
                seen = place - (2 - tap) * dilation
                if seen >= 0:
                    answer[place] += weight[:, tap] @ x[seen]
        return np.maximum(norm(answer, p, f"{name}.norm"), 0)

    x = p["item.weight"][row] * mask
    for block, dilation in enumerate([1, 2, 1, 2, 1, 2]):
        inner = convolution(x, f"blocks.{block}.first", dilation)
        x = (x + convolution(inner, f"blocks.{block}.second", 2 * dilation)) * mask
    return np.asarray(x[max(len(items), 1) - 1])


def caser(p: Weights, items: Sequence[int], n_items: int, window: int, drop: Drop = keep) -> Array:
    """Each filter slid over the image by hand; zeros below an image that is lower than the filter."""
    row, mask = padded(items, n_items, window)
    image = p["item.weight"][row] * mask
    tall = np.concatenate([image, np.zeros((max(0, 4 - window), image.shape[1]))])
    filters = p["rows"].reshape(9, 16, -1)  # rows of filters: two, then three, then four for each of 16 channels
    state = []
    for number, (height, first) in enumerate([(2, 0), (3, 2), (4, 5)]):
        for channel in range(16):
            answers = [
                np.sum(filters[first : first + height, channel] * tall[start : start + height])
                + p["horizontal_bias"][16 * number + channel]
                for start in range(len(tall) - height + 1)
            ]
            state.append(max(0.0, *answers))
    state += [max(0.0, float(p["vertical_L"] @ column + p["vertical_bias"][0])) for column in image.T]
    return drop(np.array(state))


def gru4rec(p: Weights, items: Sequence[int], n_items: int, window: int) -> Array:
    """The GRU's equations, an item at a time; an empty history is the padding item."""

    def gate(x: Array, name: str, part: int) -> Array:
        width = p["gru.weight_hh_l0"].shape[1]
        of = slice(part * width, (part + 1) * width)
        answer: Array = p[f"gru.weight_{name}_l0"][of] @ x + p[f"gru.bias_{name}_l0"][of]
        return answer

    def sigmoid(x: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(-x)))

    state = np.zeros(p["item.weight"].shape[1])
    for item in items or [n_items]:
        x = p["item.weight"][item]
        reset = sigmoid(gate(x, "ih", 0) + gate(state, "hh", 0))
        update = sigmoid(gate(x, "ih", 1) + gate(state, "hh", 1))
        candidate = np.tanh(gate(x, "ih", 2) + reset * gate(state, "hh", 2))
        state = (1 - update) * candidate + update * state
    return np.asarray(state)


ORACLES: Final[dict[str, Oracle]] = {"sasrec": sasrec, "nextitnet": nextitnet, "caser": caser, "gru4rec": gru4rec}
