"""Every method's objective in float64 NumPy, a row at a time, written from the papers and from no code of ours.

A network is a dictionary: `table` (N+1)×D states by last item, `item` N×D and `item_bias` N logits, `q` N×K×D and
`q_bias` N×K heads. What a paper puts under a stop-gradient is computed from `fixed`, everything else from `theta`; at
theta = fixed the objective's derivative in theta is the step's gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Net = Mapping[str, Numbers]


@dataclass(frozen=True)
class Row:
    """One transition; states are named by their last item."""

    state: int
    action: int
    reward: float
    next_state: int
    done: bool
    next_action: int
    logged_return: float


@dataclass(frozen=True)
class Draws:
    """What a step draws: the mixture, and the shuffle."""

    alpha: Numbers
    shuffle: list[int]


def heads(net: Net, state: int, item: int) -> Numbers:
    return net["q"][item] @ net["table"][state] + net["q_bias"][item]


def cross_entropy(net: Net, state: int, item: int) -> float:
    logits = net["item"] @ net["table"][state] + net["item_bias"]
    return float(np.log(np.exp(logits).sum()) - logits[item])


def penalised(name: str, options: Mapping[str, Any], q: Numbers, alpha: Numbers) -> float:
    """What the target maximises, of one item's heads."""
    spread = math.sqrt(((q - q.mean()) ** 2).mean())
    if name in ("vpq", "shuffled"):
        return float(alpha @ q) / (1 + options["penalty"] * spread)
    if name == "minus":
        return float(alpha @ q) - options["penalty"] * spread
    return float(alpha @ q)


def best_of(name: str, options: Mapping[str, Any], net: Net, state: int, alpha: Numbers) -> tuple[float, int]:
    scores = [penalised(name, options, heads(net, state, item), alpha) for item in range(len(net["q"]))]
    return max(scores), int(np.argmax(scores))


def follow(
    name: str, options: Mapping[str, Any], online: Net, target: Net, row: Row, alpha: Numbers, released: bool
) -> tuple[float, int]:
    """The value of what comes after a transition, and the item that has it."""
    if name == "sarsa":
        return float(alpha @ heads(target, row.next_state, row.next_action)), row.next_action
    double = options["double"] if name == "sac" else released
    if not double:
        return best_of(name, options, target, row.next_state, alpha)
    even = np.full(len(alpha), 1 / len(alpha))
    _, item = best_of(name, options, online, row.next_state, even)
    return penalised(name, options, heads(target, row.next_state, item), alpha), item


def certainty(options: Mapping[str, Any], q: Numbers) -> float:
    """UWAC: β / Var, clipped."""
    variance = ((q - q.mean()) ** 2).mean()
    return float(options["clip"]) if variance == 0 else min(options["beta"] / variance, options["clip"])


def objective(
    name: str,
    options: Mapping[str, Any],
    theta: Net,
    fixed: Net,
    target: Net | None,
    rows: list[Row],
    draws: Draws,
    released: bool = False,
    step: int = 0,
) -> float:
    """The loss of a batch."""
    if name == "supervised" or options.get("critic") == "off":
        return float(np.mean([cross_entropy(theta, row.state, row.action) for row in rows]))
    if name in ("reward-weighted", "return-weighted"):
        weights = [row.reward if name == "reward-weighted" else row.logged_return for row in rows]
    else:
        weights = actor_weights(name, options, fixed, rows, draws, step)
    unweighted = "critic" in options and plain_actor(options, step)
    if options["floor"] is not None and not unweighted:
        weights = [max(weight, options["floor"]) for weight in weights]
    actor = np.mean([w * cross_entropy(theta, row.state, row.action) for w, row in zip(weights, rows, strict=True)])
    if target is None:
        return float(actor)
    return float(actor + critic(name, options, theta, fixed, target, rows, draws.alpha, released))


def plain_actor(options: Mapping[str, Any], step: int) -> bool:
    """Whether the critic does not weigh the cross-entropy (Figure 2's Q-aux, and the warm-up)."""
    return options["critic"] == "auxiliary" or step < options["warm_up"]


def actor_weights(
    name: str, options: Mapping[str, Any], fixed: Net, rows: list[Row], draws: Draws, step: int
) -> list[float]:
    """The weight of each row's cross-entropy, before the floor."""
    if plain_actor(options, step):
        return [1.0] * len(rows)
    own = [heads(fixed, row.state, row.action) for row in rows]
    weights = [float(draws.alpha @ q) for q in own]
    if name == "uwac" and options["form"] == "original":
        return [weight * certainty(options, q) for weight, q in zip(weights, own, strict=True)]
    if name == "uwac":
        spreads = [math.sqrt(((q - q.mean()) ** 2).mean()) for q in own]
        return [w * options["beta"] / (spread + 0.001) for w, spread in zip(weights, spreads, strict=True)]
    return [weights[place] for place in draws.shuffle] if name == "shuffled" else weights


def critic(
    name: str,
    options: Mapping[str, Any],
    theta: Net,
    fixed: Net,
    target: Net,
    rows: list[Row],
    alpha: Numbers,
    released: bool,
) -> float:
    """The temporal difference, and what a method adds to it."""
    total = 0.0
    for row in rows:
        y, trust = row.reward, float(options.get("clip", 1.0))
        if not row.done:
            value, item = follow(name, options, fixed, target, row, alpha, released)
            y += options["discount"] * value
            trust = certainty(options, heads(target, row.next_state, item)) if name == "uwac" else 1.0
        if name != "uwac" or options["form"] == "released":
            trust = 1.0
        value = float(alpha @ heads(theta, row.state, row.action))
        total += trust * 0.5 * (y - value) ** 2
        if name == "cql":
            everything = [math.exp(alpha @ heads(theta, row.state, item)) for item in range(len(theta["q"]))]
            total += options["weight"] * (math.log(sum(everything)) - value)
    return total / len(rows)
