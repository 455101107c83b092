"""What `prepare` must make of a log, in plain Python after `protocol.md`: no engine, and no code of valuerec's."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from safetensors.numpy import load_file

DATA_FILES = ("arrays.safetensors", "events.parquet", "items.parquet", "sessions.parquet")
SPLITS = ("train", "validation", "test")


class Event(NamedTuple):
    """An event that is no bad row; kind is click, purchase, ignore, transaction or one of its own."""

    session: str
    item: str
    time: int
    kind: str


class Prepared(NamedTuple):
    """All that a dataset says of its events."""

    filtered: dict[str, int]
    sessions: list[tuple[str, str, int, int, int]]  # id, split, events, first and last time
    items: list[tuple[Any, ...]]  # id, clicks, purchases, and all its events where there are other kinds
    events: list[tuple[str, str, int, str, str]]  # session, item, time, kind, split
    item_E: list[int]
    event_E: list[int]
    offset_S: list[int]


def expected(
    events: Iterable[Event],
    format: str,
    *,
    split: str = "random",
    seed: int = 0,
    min_item_events: int = 3,
    min_session_events: int = 3,
    sample_sessions: int | None = None,
    drop_duplicates: bool = False,
    others: Sequence[str] = (),
) -> Prepared:
    """The dataset of a log, which may have kinds of its own beside clicks and purchases."""
    left = list(events)
    filtered: dict[str, int] = {}

    def keep(reason: str, good: Callable[[Event], bool]) -> None:
        nonlocal left
        before, left = len(left), [event for event in left if good(event)]
        if before > len(left):
            filtered[reason] = before - len(left)

    def common_items(counted: Sequence[Event]) -> set[str]:
        return {item for item, count in Counter(event.item for event in counted).items() if count >= min_item_events}

    def long_sessions(counted: Sequence[Event]) -> set[str]:
        counts = Counter(event.session for event in counted)
        return {session for session, count in counts.items() if count >= min_session_events}

    keep("transaction_row", lambda event: event.kind != "transaction")
    keep("ignored_event", lambda event: event.kind != "ignore")
    if drop_duplicates:
        before, left = len(left), list(dict.fromkeys(left))
        if before > len(left):
            filtered["duplicate"] = before - len(left)
    if format == "yoochoose":
        items = common_items([event for event in left if event.kind == "click"])
        keep("rare_item", lambda event: event.kind != "click" or event.item in items)
        sessions = long_sessions([event for event in left if event.kind == "click"])
        keep("short_session", lambda event: event.session in sessions)
    elif format == "retailrocket":
        sessions = long_sessions(left)
        keep("short_session", lambda event: event.session in sessions)
        items = common_items(left)
        keep("rare_item", lambda event: event.item in items)
    else:
        items = common_items(left)
        keep("rare_item", lambda event: event.item in items)
        sessions = long_sessions(left)
        keep("short_session", lambda event: event.session in sessions)
    if sample_sessions is not None:
        order = sorted({event.session for event in left}, key=lambda name: (md5(f"sample/{seed}/{name}"), name))
        drawn = set(order[:sample_sessions])
        keep("not_sampled", lambda event: event.session in drawn)
    return _arranged(left, filtered, split, seed, ("click", "purchase", *others))


def noticed(events: Iterable[Event], kept: Sequence[tuple[str, str, int, str, str]], drop: bool) -> dict[str, Any]:
    """What prepare should report about a log, but for examples.

    Args:
        events: that are no bad rows.
        kept: those of a `Prepared`.
        drop: whether repetitions are dropped before anything is counted.
    """
    known = [event for event in events if event.kind not in ("ignore", "transaction")]
    known = list(dict.fromkeys(known)) if drop else known
    answer: dict[str, Any] = {"repetitions": len(kept) - len(set(kept)), "spellings": {}}
    for field, name in (("session", "purchases_in_unseen_sessions"), ("item", "purchases_of_unseen_items")):
        clicked = {getattr(event, field) for event in known if event.kind == "click"}
        answer[name] = sum(event.kind == "purchase" and getattr(event, field) not in clicked for event in known)
        groups: dict[str, set[str]] = defaultdict(set)
        for event in known:
            groups[_folded(getattr(event, field))].add(getattr(event, field))
        sizes = [len(group) for group in groups.values() if len(group) > 1]
        if sizes:
            answer["spellings"][field] = (sum(sizes), len(sizes))
    return answer


_FILLERS = {*"\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0", *map(chr, range(0xFE00, 0xFE10))}


def is_blank(name: str) -> bool:
    """Whether an id shows nothing."""
    unseen = ("Zs", "Zl", "Zp", "Cc", "Cf")
    return all(unicodedata.category(letter) in unseen or letter in _FILLERS for letter in name)


def _folded(name: str) -> str:
    seen = "".join(letter for letter in name if unicodedata.category(letter) != "Cf" and letter not in _FILLERS)
    text = unicodedata.normalize("NFKC", seen).strip().lower()
    return re.sub(r"^0+([0-9]+)$", r"\1", text)


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def split_by_hash(session: str, seed: int) -> str:
    """80/10/10 by the first 32 bits of md5(seed/session)."""
    tenth = int(md5(f"{seed}/{session}")[:8], 16) * 10 / 2**32
    return "train" if tenth < 8 else "validation" if tenth < 9 else "test"


def split_by_end(ends: dict[str, int]) -> dict[str, str]:
    """80/10/10 by a session's end, ties by id."""
    order = sorted(ends, key=lambda session: (ends[session], session.encode()))
    bounds = {session: place * 10 / len(order) for place, session in enumerate(order)}
    return {name: "train" if at < 8 else "validation" if at < 9 else "test" for name, at in bounds.items()}


def _arranged(
    left: Sequence[Event], filtered: dict[str, int], split: str, seed: int, kind_names: Sequence[str]
) -> Prepared:
    own: dict[str, list[Event]] = defaultdict(list)
    for event in left:
        own[event.session].append(event)
    if split == "random":
        split_of = {session: split_by_hash(session, seed) for session in own}
    else:
        split_of = split_by_end({session: max(event.time for event in inside) for session, inside in own.items()})
    order = sorted(own, key=lambda session: (SPLITS.index(split_of[session]), session.encode()))
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for event in left:
        kinds[event.item][event.kind] += 1
    catalogue = sorted(kinds, key=str.encode)
    index = {item: place for place, item in enumerate(catalogue)}
    ordered = [
        event
        for session in order
        for event in sorted(
            own[session], key=lambda event: (event.time, kind_names.index(event.kind), event.item.encode())
        )
    ]
    offset_S = [0]
    for session in order:
        offset_S.append(offset_S[-1] + len(own[session]))
    times = {session: [event.time for event in own[session]] for session in order}
    return Prepared(
        filtered=filtered,
        sessions=[(name, split_of[name], len(own[name]), min(times[name]), max(times[name])) for name in order],
        items=[
            (item, kinds[item]["click"], kinds[item]["purchase"], *([kinds[item].total()] if kind_names[2:] else []))
            for item in catalogue
        ],
        events=[(*event, split_of[event.session]) for event in ordered],
        item_E=[index[event.item] for event in ordered],
        event_E=[kind_names.index(event.kind) for event in ordered],
        offset_S=offset_S,
    )


def found(folder: Path, manifest: dict[str, Any]) -> Prepared:
    """What a dataset folder says."""
    filtered, duplicates = (manifest["account"][name] for name in ("filtered", "duplicates"))
    arrays = load_file(folder / "arrays.safetensors")
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "offset": "int64",
        "item": "int32",
        "event": "uint8",
    }
    head = (folder / "arrays.safetensors").read_bytes()[:8]
    assert int.from_bytes(head, "little") % 8 == 0, "the arrays begin where a memory map reads them whole"
    return Prepared(
        filtered=filtered | ({"duplicate": duplicates} if duplicates else {}),
        sessions=_rows(folder / "sessions.parquet", ["session", "split", "events", "start", "end"]),
        items=_rows(
            folder / "items.parquet",
            ["item", "clicks", "purchases", *(["events"] if manifest.get("event_kinds") else [])],
        ),
        events=_rows(folder / "events.parquet", ["session", "item", "time", "event", "split"]),
        item_E=arrays["item"].tolist(),
        event_E=arrays["event"].tolist(),
        offset_S=arrays["offset"].tolist(),
    )


def _rows(path: Path, names: Sequence[str]) -> list[Any]:
    table = pq.read_table(path)
    assert table.column_names == list(names)
    for place, field in enumerate(table.schema):
        if str(field.type) == "timestamp[us, tz=UTC]":
            table = table.set_column(place, field.name, table[field.name].cast("int64"))
    return list(zip(*table.to_pydict().values(), strict=True))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in DATA_FILES}
