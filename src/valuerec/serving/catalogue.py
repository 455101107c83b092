"""Items by name, and recorded sessions: what the page shows beside the answers."""

from __future__ import annotations

import csv
import json
import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow.parquet as pq

from valuerec.dataset import CLICK, KIND_PATTERN, PURCHASE
from valuerec.errors import ValuerecError
from valuerec.folders import explained_io
from valuerec.sessions import read_sessions

MOST_SESSIONS: Final = 500  # that are kept in memory
_LONGEST_NAME: Final = 512
_EVENTS: Final = {CLICK: "click", PURCHASE: "purchase", "c": "click", "p": "purchase"}


class Past(NamedTuple):
    """A recorded session, its events (item, kind) oldest first."""

    id: str
    events: list[tuple[str, str]]


class Search:
    """Items by a part of their id or name, in one text that is searched whole.

    Args:
        ids: the catalogue.
        names: the names that are known.
    """

    def __init__(self, ids: Sequence[str], names: dict[str, str]) -> None:
        self._ids = ids
        lines = [_line(item, names.get(item, "")) for item in ids]
        self._text = "\n".join(lines)
        self._place = {item: place for place, item in enumerate(ids)}
        self._starts = [0]
        for line in lines:
            self._starts.append(self._starts[-1] + len(line) + 1)

    def find(self, query: str, limit: int) -> list[str]:
        """Ids; the item with that very id first, then in order of the catalogue. No query finds all."""
        if not query:
            return list(self._ids[:limit])
        found = [self._place[query]] if query in self._place else []
        wanted, start = _line(query, "").removesuffix("\t"), 0
        while len(found) < limit and (at := self._text.find(wanted, start)) >= 0:
            place = bisect_right(self._starts, at) - 1
            if place not in found[:1]:
                found.append(place)
            start = self._starts[place + 1]
        return [self._ids[place] for place in found[:limit]]


def _line(item: str, name: str) -> str:
    return f"{item}\t{name}".lower().replace("\n", " ")


def read_names(path: Path) -> dict[str, str]:
    """Names by id, of a CSV file with columns id and name.

    Raises:
        ValuerecError: where it is unreadable, naming the line.
    """
    names = {}
    with explained_io(f"Reading {path}"), path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        try:
            if rows.fieldnames is None or not {"id", "name"} <= set(rows.fieldnames):
                raise ValuerecError(f"{path} has no columns id and name; write these in its first line.")
            for row in rows:
                if not row["id"] or row["name"] is None:
                    raise ValuerecError(f"{path}, line {rows.line_num} has no id or no name; mend the line.")
                names[row["id"]] = row["name"][:_LONGEST_NAME]
        except csv.Error as error:
            raise ValuerecError(f"{path}, line {rows.line_num} is not CSV ({error}); mend the line.") from error
        except UnicodeDecodeError as error:
            raise ValuerecError(f"{path} is not UTF-8 text (byte {error.start}); convert it to UTF-8.") from error
    return names


def read_past(path: Path) -> list[Past]:
    """The first `MOST_SESSIONS` recorded sessions.

    Args:
        path: a dataset folder, of which it takes the test sessions; JSON lines with {"session", "events": [{"item",
            "event"}]}; or a file of sessions as `valuerec recommend` reads it, where every event is a click.

    Raises:
        ValuerecError: where it is unreadable, naming the line.
    """
    if path.is_dir():
        return _of_dataset(path)
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        with explained_io(f"Reading {path}"), path.open(encoding="utf-8-sig", errors="replace") as file:
            if '"events"' in file.readline():
                file.seek(0)
                return [_past(path, number, line) for number, line in islice(enumerate(file, 1), MOST_SESSIONS)]
    return [Past(each.id, [(item, "click") for item in each.items]) for each in read_sessions(path)[:MOST_SESSIONS]]


def _past(path: Path, number: int, line: str) -> Past:
    try:
        content = json.loads(line)
        events = [(_text(event["item"]), _EVENTS.get(event["event"], event["event"])) for event in content["events"]]
        if not all(isinstance(event, str) and re.fullmatch(KIND_PATTERN, event) for _, event in events):
            raise ValueError
        return Past(_text(content["session"]), events)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        wanted = '{"session": "id", "events": [{"item": "id", "event": "click"}]}'
        raise ValuerecError(f"{path}, line {number} is no session; write {wanted}.") from error


def _text(value: Any) -> str:
    if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
        return str(value)
    raise ValueError


def _of_dataset(folder: Path) -> list[Past]:
    past: dict[str, Past] = {}
    with explained_io(f"Reading {folder}"), pq.ParquetFile(folder / "events.parquet") as file:
        for batch in file.iter_batches(columns=["session", "item", "event", "split"]):
            for row in batch.to_pylist():
                if row["split"] != "test":
                    continue
                session = str(row["session"])
                if session not in past and len(past) == MOST_SESSIONS:
                    return list(past.values())
                event = _EVENTS.get(row["event"], str(row["event"]))
                past.setdefault(session, Past(session, [])).events.append((str(row["item"]), event))
    return list(past.values())
