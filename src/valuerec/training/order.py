"""Which events make which batch: a pure function of (seed, epoch, step), so that a resumed run is the same run."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


class BatchOrder:
    """Every event once an epoch, in an order drawn anew each epoch.

    Args:
        events: the event numbers of the training split.
        batch: B; an epoch's last batch may be smaller.
        seed: with the epoch, all that the order depends on.
    """

    def __init__(self, events: range, batch: int, seed: int) -> None:
        self.events, self.batch, self.seed = events, batch, seed
        self.steps_per_epoch = -(-len(events) // batch)
        self._epoch = -1
        self._order_E: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def __call__(self, step: int) -> NDArray[np.int64]:
        """The event numbers of step 0, 1, ... of the whole run."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:  # the last epoch's order is kept, for speed alone
            draw = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            self._order_E = draw.permutation(len(self.events)) + self.events.start
            self._epoch = epoch
        return self._order_E[place * self.batch : (place + 1) * self.batch]


def step_seed(seed: int, step: int) -> int:
    """The seed of a step's own randomness (dropout, mixture weights): independent of every step before it."""
    return _hash(f"{seed}/{step}") >> 1


def coin(seed: int, step: int) -> int:
    """0 or 1, with even chances and independent of everything else in the step."""
    return _hash(f"{seed}/{step}/coin") & 1


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
