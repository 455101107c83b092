"""Does a new log look like an earlier dataset: shares of events, catalogue, session lengths, time.

All figures are of prepared data, so of what training would see. They measure sizes of differences, not their
significance: with few sessions chance alone makes them differ, so with fewer than `LEAST_SESSIONS` most are not judged.
How many sessions there are is judged always, for a log that was cut off is small, and the gap between the two as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.table import Table

from valuerec.dataset import SCHEMA_VERSION, DatasetManifest
from valuerec.errors import UsageError, ValuerecError
from valuerec.events.options import Options
from valuerec.events.quarantine import Quarantine
from valuerec.folders import check_whole, explained_io, read_manifest
from valuerec.printing import whole_table

pc: Any = pyarrow.compute  # its stubs know only some of the combinations of types that it takes

LEAST_SESSIONS: Final = 100
_DAY: Final = 86_400.0  # seconds


class Limit(NamedTuple):
    """What one figure means and what it may be.

    Args:
        what: of the figure, for people.
        limit: what it is held to by default.
        at_least: whether the figure must reach the limit, and not stay within it.
        range: what a limit can be: one that every log meets is one, one that none can meet is not.
    """

    what: str
    limit: float
    at_least: bool = False
    range: tuple[float, float] = (0.0, math.inf)


_FACTOR: Final = (1.0, math.inf)
_SHARE: Final = (0.0, 1.0)
LIMITS: Final = {
    "sessions": Limit("sessions: the larger number over the smaller", 2.0, range=_FACTOR),
    "purchase_share": Limit("purchases among the events: the larger share over the smaller", 1.5, range=_FACTOR),
    "catalogue_known": Limit("share of the new events whose item the earlier dataset has", 0.8, True, _SHARE),
    "catalogue_left": Limit("share of the earlier events whose item the new log still has", 0.8, True, _SHARE),
    "session_length": Limit("largest difference of the cumulative session lengths (Kolmogorov-Smirnov)", 0.1),
    "time_gap": Limit("days between the two logs, 0 where they overlap", 7.0),
    "time_span": Limit("days from first to last event: the longer over the shorter", 4.0, range=_FACTOR),
}


class DriftError(ValuerecError):
    """A log that has drifted too far; `drift` is what a manifest would have said."""

    def __init__(self, sentence: str, drift: dict[str, Any]) -> None:
        super().__init__(sentence)
        self.drift = drift


class Profile(NamedTuple):
    """What is compared of a dataset.

    Args:
        items: a row an item: item, events.
        purchase_share: purchases over events.
        sessions_by_length: how many sessions have 0, 1, 2, ... events.
        range: first and last time in seconds since 1970; None for positions.
    """

    items: pa.Table
    purchase_share: float
    sessions_by_length: NDArray[np.int64]
    range: tuple[float, float] | None


@dataclass(frozen=True)
class Gate:
    """An earlier dataset to resemble, and what to do with a log that does not.

    Raises:
        UsageError: naming an option that is wrong.
    """

    like: Path
    manifest: Mapping[str, Any]
    earlier: Profile
    on_drift: str
    limits: Mapping[str, float]

    @staticmethod
    def of(like: str | Path | None, on_drift: str, limits: Mapping[str, float] | None) -> Gate | None:
        """The gate that the options ask for; None without an earlier dataset.

        Raises:
            UsageError: for unknown names or values, or where `like` is no dataset.
            ValuerecError: where it is damaged, or from a newer valuerec.
        """
        if on_drift not in ("warn", "fail"):
            raise UsageError(f"--on-drift is {on_drift!r}; choose one of: warn, fail.")
        if like is None:
            if limits or on_drift == "fail":
                raise UsageError("--drift-limit and --on-drift need an earlier dataset; name it with --like.")
            return None
        for name, limit in (limits or {}).items():
            if name not in LIMITS:
                raise UsageError(f"--drift-limit names {name}; it can name {', '.join(LIMITS)}.")
            least, most = LIMITS[name].range
            if not least <= limit <= most:
                raise UsageError(
                    f"--drift-limit says {name}={limit:g}; its limit is a number from {least:g} to {most:g}."
                )
        folder = Path(like)
        manifest = read_manifest(folder, "dataset", SCHEMA_VERSION, DatasetManifest)
        check_whole(folder, manifest, ["items.parquet", "sessions.parquet"])
        if not isinstance(manifest.get("config"), dict):
            raise UsageError(f"{folder} was not made by prepare (its manifest has no config); name a dataset that was.")
        every = {name: each.limit for name, each in LIMITS.items()} | dict(limits or {})
        return Gate(folder, manifest, profile_of(folder, manifest), on_drift, every)

    def judge(self, folder: Path, content: Mapping[str, Any], options: Options, aside: Quarantine) -> dict[str, Any]:
        """Compare the prepared files in `folder` with the earlier dataset.

        Args:
            folder: where items.parquet and sessions.parquet lie.
            content: counts and time, as the manifest will say.
            options: how the log was prepared.
            aside: its bad rows, which are kept if it is refused.

        Returns:
            For the manifest: the earlier dataset, each figure with its limit and verdict, and notes.

        Raises:
            DriftError: where a figure is beyond its limit and the gate fails.
        """
        figures = list(self._figures(self.earlier, profile_of(folder, content)))
        drifted = [figure["name"] for figure in figures if figure["verdict"] == "drift"]
        answer = {
            "like": {"name": self.like.name, "fingerprint": self.manifest["fingerprint"]},
            "on_drift": self.on_drift,
            "figures": figures,
            "drifted": drifted,
            "notes": _differences(self.manifest["config"], options.resolved()),
        }
        if drifted and self.on_drift == "fail":
            told = ", ".join(_told(figure) for figure in figures if figure["name"] in drifted)
            more = ",".join(
                f"{figure['name']}={'inf' if figure['value'] is None else '...'}"
                for figure in figures
                if figure["name"] in drifted
            )
            raise DriftError(
                f"The log has drifted from {self.like}: {told}{aside.refused()}; find out why, or allow more with "
                f"--drift-limit {more} or --on-drift warn.",
                answer,
            )
        return answer

    def _figures(self, earlier: Profile, now: Profile) -> Iterator[dict[str, Any]]:
        counts = [int(each.sessions_by_length.sum()) for each in (earlier, now)]
        few = min(counts) < LEAST_SESSIONS
        why_not = f"fewer than {LEAST_SESSIONS} sessions" if few else None
        yield self._figure("sessions", _factor(*counts), None)
        yield self._figure("purchase_share", _factor(earlier.purchase_share, now.purchase_share), why_not)
        yield self._figure("catalogue_known", _share_of(now.items, earlier.items), why_not)
        yield self._figure("catalogue_left", _share_of(earlier.items, now.items), why_not)
        yield self._figure("session_length", _distance(earlier.sessions_by_length, now.sessions_by_length), why_not)
        if earlier.range is None or now.range is None:
            for name in ("time_gap", "time_span"):
                yield self._figure(name, math.nan, "positions are no dates")
            return
        (first, last), (new_first, new_last) = earlier.range, now.range
        yield self._figure("time_gap", max(new_first - last, first - new_last, 0.0) / _DAY, None)
        yield self._figure("time_span", _factor(last - first, new_last - new_first), why_not)

    def _figure(self, name: str, value: float, why_not: str | None) -> dict[str, Any]:
        """One figure for the manifest, which has no infinity: null there, in a value and in a limit."""
        limit, at_least = self.limits[name], LIMITS[name].at_least
        within = value >= limit if at_least else value <= limit
        verdict = f"not judged: {why_not}" if why_not else "ok" if within else "drift"
        shown = round(value, 6) if math.isfinite(value) else None
        shown_limit = limit if math.isfinite(limit) else None
        return {"name": name, "value": shown, "limit": shown_limit, "at_least": at_least, "verdict": verdict}


def profile_of(folder: Path, content: Mapping[str, Any]) -> Profile:
    """Read what is compared of a dataset: the counts of the items, one column of the sessions.

    Raises:
        ValuerecError: where the files are not what prepare writes.
    """
    try:
        with explained_io(f"Reading {folder}"):
            items = pq.read_table(folder / "items.parquet")
            sessions = pq.ParquetFile(folder / "sessions.parquet")
            lengths = np.zeros(1, dtype=np.int64)
            for batch in sessions.iter_batches(columns=["events"]):
                lengths = _added(lengths, np.bincount(batch["events"].to_numpy()))
        two = pc.add(items["clicks"], items["purchases"])
        events = items["events"] if "events" in items.column_names else two  # of a dataset with more kinds than two
        counted = pa.table({"item": items["item"], "events": events})
        purchases, total = (int(pc.sum(column).as_py() or 0) for column in (items["purchases"], events))
        return Profile(counted, purchases / total, lengths, _range(content["time"]))
    except (pa.ArrowException, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ValuerecError(f"{folder} does not hold what prepare writes ({error}); prepare it again.") from error


def _added(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    total = np.zeros(max(len(one), len(other)), dtype=np.int64)
    total[: len(one)] += one
    total[: len(other)] += other
    return total


def _factor(one: float, other: float) -> float:
    """The larger over the smaller; infinite where only one is zero."""
    small, large = sorted((one, other))
    return 1.0 if large == small else large / small if small > 0 else math.inf


def _share_of(items: pa.Table, catalogue: pa.Table) -> float:
    """The share of the events on items that a catalogue has."""
    known = pc.is_in(items["item"], catalogue["item"].combine_chunks())
    return (pc.sum(items["events"].filter(known)).as_py() or 0) / pc.sum(items["events"]).as_py()  # type: ignore[no-any-return]


def _distance(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Kolmogorov and Smirnov's distance of two histograms."""
    both = np.zeros(max(len(one), len(other)), dtype=np.int64)
    shares = [np.cumsum(_added(both, each)) / each.sum() for each in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def _range(time: Mapping[str, Any]) -> tuple[float, float] | None:
    """First and last time in seconds since 1970; None for positions."""
    if time["unit"] == "position":
        return None
    first, last = (datetime.fromisoformat(time[name]).timestamp() for name in ("first", "last"))
    return first, last


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Options that shape the figures and differ between the two datasets."""
    names = ("format", "events", "min_item_events", "min_session_events", "drop_duplicates", "sample_sessions")
    missing: dict[str, Any] = {"drop_duplicates": False}  # datasets from before the option
    before = {name: earlier.get(name, missing.get(name)) for name in names}
    return [
        f"the earlier dataset was prepared with {name} {before[name]}, this one with {now[name]}: figures may differ "
        "for that reason alone."
        for name in names
        if before[name] != now[name]
    ]


def _told(figure: Mapping[str, Any]) -> str:
    word = "at least" if figure["at_least"] else "at most"
    return f"{figure['name']} is {_number(figure['value'])} ({word} {figure['limit']:g})"


def _number(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.4g}"


def drift_table(drift: Mapping[str, Any]) -> Table:
    """The figures beside their limits, for people."""
    table = whole_table("figure", "value", "limit", "verdict", "", title=f"Compared with {drift['like']['name']}")
    for figure in drift["figures"]:
        judged = not figure["verdict"].startswith("not judged")
        value = _number(figure["value"]) if judged or figure["value"] is not None else "–"
        sign = "≥" if figure["at_least"] else "≤"
        limit = "none" if figure["limit"] is None else f"{sign} {figure['limit']:g}"
        table.add_row(figure["name"], value, limit, figure["verdict"], LIMITS[figure["name"]].what)
    return table
