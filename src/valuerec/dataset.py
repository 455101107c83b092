"""A prepared dataset: memory-mapped arrays, and transitions made from them by index arithmetic.

Shapes: E events of all sessions laid end to end, S sessions, B rows of a batch, L window, N items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from valuerec.errors import UsageError, ValuerecError
from valuerec.folders import Manifest, explained_io, read_manifest
from valuerec.safetensors_header import Place, broken, read_header

SCHEMA_VERSION: Final = 1
CLICK: Final = 0
PURCHASE: Final = 1
KINDS: Final = ("click", "purchase")  # every dataset's first two kinds of event; `Dataset.kinds` has the others
KIND_PATTERN: Final = "^[a-z][a-z0-9_]{0,29}$"  # what a kind may be called
MOST_KINDS: Final = 128  # while a log is prepared, a code is a signed byte
EventKind = Annotated[str, Field(pattern=KIND_PATTERN)]
LONGEST_WINDOW: Final = 255  # history lengths are kept in a byte

Split = Literal["train", "validation", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")
Part = Literal["train", "validation", "test", "held-out"]
PARTS: Final[tuple[Part, ...]] = (*SPLITS, "held-out")  # held-out: validation and test together

_LARGEST_REWARD: Final = 1e12  # whose squares, summed, float32 can hold
_NO_MORE: Final = 1e-12  # a discount after which rewards are lost in float32
_ARRAY_TYPES = {"item": ("I32", np.int32), "event": ("U8", np.uint8), "offset": ("I64", np.int64)}


class Counts(BaseModel, extra="allow", strict=True):
    """Sizes of a prepared dataset."""

    sessions: int = Field(ge=1)
    items: int = Field(ge=1)
    events: int = Field(ge=1)


class SplitSize(BaseModel, extra="allow", strict=True):
    """The size of one split."""

    events: int = Field(ge=0)


class DatasetManifest(Manifest):
    """What the manifest of a dataset must hold."""

    fingerprint: str
    counts: Counts
    splits: dict[Split, SplitSize]
    event_kinds: list[EventKind] = Field(default=list(KINDS), max_length=MOST_KINDS)


class Transitions(NamedTuple):
    """What the agent saw and did, one row an event (the paper's `(s, a, r, s')`).

    Items are internal indices 0..N-1; N pads on the right. An empty history has length 1: one padding item.
    `next_action_B` is what was logged at s', on a session's last event (`done_B`) the event's own item; `reward_B` is
    empty without rewards, `return_B` unless a discount was given too.
    """

    state_BL: NDArray[np.int32]
    length_B: NDArray[np.int32]
    action_B: NDArray[np.int64]
    event_B: NDArray[np.uint8]
    reward_B: NDArray[np.float32]
    next_state_BL: NDArray[np.int32]
    next_length_B: NDArray[np.int32]
    done_B: NDArray[np.bool_]
    next_action_B: NDArray[np.int64]
    return_B: NDArray[np.float32]


@dataclass(frozen=True)
class Rewards:
    """The reward of each kind of event, negative ones too.

    Args:
        click: paper, section 2: 0.2.
        purchase: paper, section 2: 1.0.
        others: of the other kinds that a dataset has, by name (`valuerec.prepare`, option `events`).
    """

    click: float = 0.2
    purchase: float = 1.0
    others: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in KINDS:
            if name in self.others:
                raise UsageError(f"The reward of a {name} has an option of its own; leave it out of the others.")
        for name, value in self.by_kind.items():
            if not -_LARGEST_REWARD <= value <= _LARGEST_REWARD:
                raise UsageError(
                    f"The reward of a {name} is {value}; it must be a number between -{_LARGEST_REWARD:g} and "
                    f"{_LARGEST_REWARD:g}."
                )

    @staticmethod
    def of(by_kind: Mapping[str, float]) -> Rewards:
        """Rewards by the name of the kind; a click's and a purchase's are the paper's where they are not named."""
        others = {name: value for name, value in by_kind.items() if name not in KINDS}
        return Rewards(others=others, **{name: by_kind[name] for name in KINDS if name in by_kind})

    @property
    def by_kind(self) -> dict[str, float]:
        """All of them, by the name of the kind."""
        return {"click": self.click, "purchase": self.purchase, **self.others}

    @property
    def least(self) -> float:
        """r_min."""
        return min(self.by_kind.values())

    @property
    def most(self) -> float:
        """r_max."""
        return max(self.by_kind.values())

    def shifted(self) -> Rewards:
        """The paper's linear reward transformation (section 2.1.3): all less r_min, so that the least is 0.

        It is no mere change of scale where episodes end: it adds −r_min (1 − γ^T) / (1 − γ) to the return of an event
        with T events to go, its own included, so with a negative r_min the longer session looks better than it did.
        """
        shifted = {name: value - self.least for name, value in self.others.items()}
        return Rewards(self.click - self.least, self.purchase - self.least, shifted)


class Dataset:
    """The folder that `valuerec.prepare` makes, opened for reading.

    Args:
        path: the dataset folder.

    Raises:
        UsageError: where there is no dataset.
        ValuerecError: where its files do not fit its manifest.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest: dict[str, Any] = read_manifest(self.path, "dataset", SCHEMA_VERSION, DatasetManifest)
        arrays = _map_arrays(self.path / "arrays.safetensors")
        self.item_E, self.event_E, self.offset_S = arrays["item"], arrays["event"], arrays["offset"]
        self._check()
        self.history_E = _history(self.offset_S, len(self.item_E))

    def _check(self) -> None:
        counts, offset_S = self.manifest["counts"], self.offset_S
        n_events = len(self.item_E)
        fits = (
            len(self.event_E) == n_events == counts["events"]
            and sum(self.manifest["splits"].get(name, {"events": -1})["events"] for name in SPLITS) == n_events
            and len(offset_S) == counts["sessions"] + 1
            and offset_S[0] == 0
            and offset_S[-1] == n_events
            and bool(np.all(np.diff(offset_S) > 0))
            and self.item_E.min() >= 0
            and self.item_E.max() < counts["items"]
            and self.event_E.max() < len(self.kinds)
            and self.kinds[: len(KINDS)] == KINDS
            and len(set(self.kinds)) == len(self.kinds)
        )
        if not fits:
            raise ValuerecError(
                f"{self.path}: arrays.safetensors does not fit manifest.json; prepare the dataset again."
            )

    @property
    def n_items(self) -> int:
        """Items in the catalogue; also the index that pads."""
        return int(self.manifest["counts"]["items"])

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its events, by their codes in `event_E`."""
        return tuple(self.manifest.get("event_kinds", KINDS))

    @property
    def own_kinds(self) -> tuple[str, ...]:
        """Those that are neither clicks nor purchases."""
        return self.kinds[len(KINDS) :]

    def rewards_by_code(self, rewards: Rewards) -> NDArray[np.float64]:
        """The reward of each kind of event of this dataset, by its code.

        Raises:
            UsageError: where a kind has no reward, or a reward is of a kind that the dataset does not know.
        """
        known = rewards.by_kind
        if unrewarded := [kind for kind in self.kinds if kind not in known]:
            raise UsageError(
                f"{self.path} has events of the kind {' and '.join(unrewarded)}, which no reward is given for; give "
                f"one with --reward-others {','.join(f'{kind}=0.5' for kind in unrewarded)}, say."
            )
        if unknown := [kind for kind in known if kind not in self.kinds]:
            raise UsageError(
                f"A reward is given for {' and '.join(unknown)}, and the kinds of events of {self.path} are "
                f"{', '.join(self.kinds)}; check --reward-others."
            )
        return np.array([known[kind] for kind in self.kinds])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the prepared data: equal fingerprints, equal data."""
        return str(self.manifest["fingerprint"])

    @cached_property
    def item_ids(self) -> list[str]:
        """The items' own ids; the position is the internal index."""
        return read_item_ids(self.path)

    def events_of(self, split: Part) -> range:
        """The event numbers of a split, or of validation and test together: sessions lie split by split."""
        if split == "held-out":
            return range(self.events_of("validation").start, self.events_of("test").stop)
        sizes = [int(self.manifest["splits"][name]["events"]) for name in SPLITS]
        place = SPLITS.index(split)
        start = sum(sizes[:place])
        return range(start, start + sizes[place])

    def session_of(self, number_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """The session, 0..S-1, of any events."""
        return np.searchsorted(self.offset_S, number_B, side="right").astype(np.int64) - 1

    def transitions(
        self,
        number_B: NDArray[np.int64],
        window: int,
        rewards: Rewards | None = Rewards(),
        discount: float | None = None,
    ) -> Transitions:
        """The transitions of any events, by index arithmetic alone.

        Args:
            number_B: event numbers, 0..E-1.
            window: L, how many past items make a state (paper: 10), at most 255.
            rewards: the reward of each kind of event; None where nobody asks for `reward_B`, which is empty then.
            discount: γ of `return_B`; None where nobody asks for it.

        Raises:
            UsageError: where the rewards are not those of the dataset's kinds (`rewards_by_code`).
        """
        reward_K = None if rewards is None else self.rewards_by_code(rewards)
        history_B = np.minimum(self.history_E[number_B], window).astype(np.int64)
        next_history_B = np.minimum(history_B + 1, window)
        event_B = self.event_E[number_B]
        following_B, done_B = self._following(number_B)
        return Transitions(
            state_BL=self._window(number_B - history_B, history_B, window),
            length_B=np.maximum(history_B, 1).astype(np.int32),
            action_B=self.item_E[number_B].astype(np.int64),
            event_B=event_B,
            reward_B=np.empty(0, np.float32) if reward_K is None else reward_K.astype(np.float32)[event_B],
            next_state_BL=self._window(number_B + 1 - next_history_B, next_history_B, window),
            next_length_B=next_history_B.astype(np.int32),
            done_B=done_B,
            next_action_B=self.item_E[np.where(done_B, number_B, following_B)].astype(np.int64),
            return_B=(
                np.empty(0, np.float32)
                if reward_K is None or discount is None
                else self._returns(number_B, reward_K, discount)
            ),
        )

    def _following(self, number_B: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The numbers of the events that come next in the log, and whether they are another session's."""
        following_B = np.minimum(number_B + 1, len(self.item_E) - 1)
        return following_B, (self.history_E[following_B] == 0) | (number_B == len(self.item_E) - 1)

    def _returns(
        self, number_B: NDArray[np.int64], reward_K: NDArray[np.float64], discount: float
    ) -> NDArray[np.float32]:
        """Σ_i γ^i r_i from each event to its session's end, as far as float32 can tell."""
        return_B, alive_R, number_R, factor = np.zeros(len(number_B)), np.arange(len(number_B)), number_B, 1.0
        while len(alive_R) and factor > _NO_MORE:
            return_B[alive_R] += factor * reward_K[self.event_E[number_R]]
            following_R, done_R = self._following(number_R)
            alive_R, number_R, factor = alive_R[~done_R], following_R[~done_R], factor * discount
        return return_B.astype(np.float32)

    def _window(self, start_B: NDArray[np.int64], length_B: NDArray[np.int64], window: int) -> NDArray[np.int32]:
        place_L = np.arange(window)
        number_BL = np.minimum(start_B[:, None] + place_L, len(self.item_E) - 1)
        items_BL: NDArray[np.int32] = self.item_E[number_BL]
        items_BL[place_L >= length_B[:, None]] = self.n_items
        return items_BL


def read_item_ids(folder: Path) -> list[str]:
    """The ids that the `items.parquet` of a dataset or run holds, in index order."""
    import pyarrow.parquet as pq

    with explained_io(f"Reading {folder / 'items.parquet'}"):
        return [str(item) for item in pq.read_table(folder / "items.parquet")["item"].to_pylist()]


def _history(offset_S: NDArray[np.int64], n_events: int) -> NDArray[np.uint8]:
    """How many events of its session precede each event, at most 255: one byte an event, in blocks of sessions."""
    history_E = np.empty(n_events, dtype=np.uint8)
    block = 1 << 18
    for first in range(0, len(offset_S) - 1, block):
        bounds = np.asarray(offset_S[first : first + block + 1])
        start, stop = int(bounds[0]), int(bounds[-1])
        own_start = np.repeat(bounds[:-1], np.diff(bounds))
        history_E[start:stop] = np.minimum(np.arange(start, stop) - own_start, LONGEST_WINDOW)
    return history_E


def _map_arrays(path: Path) -> dict[str, Any]:
    """Memory-map the arrays of a safetensors file, having checked names, types, shapes and places."""
    with explained_io(f"Reading {path}"):
        places = read_header(path)
        arrays = {}
        for name, (code, dtype) in _ARRAY_TYPES.items():
            match places.get(name):
                case Place(dtype=found, shape=(count,), start=start) if found == code and count:
                    arrays[name] = np.memmap(path, dtype=dtype, mode="r", offset=start, shape=(count,))
                case _:
                    raise broken(path, f"it holds no array {name} of type {code}")
    return arrays
