"""Which model answers: loaded, checked and warmed before it does, and replaced in one step.

The path is looked at now and then. What makes a version is the manifest's text, in which the hash of every file stands,
so a folder that is put in place by renaming, or a symbolic link that points elsewhere, is noticed; a folder that does
not load, or does not answer, never goes live and is reported. The version before stays in memory for a rollback.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from valuerec.bundle import CARD, METRICS
from valuerec.bundle.reading import read_card
from valuerec.errors import ValuerecError
from valuerec.folders import LARGEST_MANIFEST, MANIFEST, explained_io, read_bytes
from valuerec.model import load
from valuerec.ranking import Engine, Wanted
from valuerec.scores import read_metrics

_RECORDED: Final = 64  # requests that a new version is warmed with
_LONGEST_RECORDED: Final = 256  # events of such a request


class Version(NamedTuple):
    """A model that can answer, and what is told of it."""

    id: str
    engine: Engine
    metrics: dict[str, Any]
    card: str
    folder: Path


class Rollback(NamedTuple):
    """That a version is left, whatever it is called where that is not known, for one that was loaded from a folder."""

    leaving: str | None
    to: str
    folder: str


class State(NamedTuple):
    """The version that answers, the folder it was loaded from, and the one that a rollback left."""

    at: str
    folder: str
    left: str | None


class _Found(NamedTuple):
    """What is at the path: a folder, its version, and a stamp that a copy of the same version does not have."""

    folder: Path
    id: str
    stamp: tuple[int, int, int]


class Versions:
    """The version that answers and the one before.

    Args:
        path: a RUN or a bundle, or a symbolic link to one.
        max_disagreement: see `Engine`.
        report: told what happened: "loaded", "refused" or "rolled back", and the details.
        warmed_with: sessions for the first warming.

    Raises:
        ValuerecError: where the path holds no model that answers.
    """

    def __init__(
        self,
        path: Path,
        max_disagreement: float,
        report: Callable[[str, dict[str, Any]], None],
        warmed_with: Sequence[Sequence[str]] = (),
    ) -> None:
        self._path, self._max_disagreement, self._report = path, max_disagreement, report
        self._recorded: deque[Wanted] = deque(maxlen=_RECORDED)
        self._recorded.extend(Wanted(session=session[-_LONGEST_RECORDED:]) for session in warmed_with[:_RECORDED])
        self._lock = threading.Lock()  # one change at a time; answering does not wait for it
        self._unreadable: str | None = None  # why there is no telling what is at the path
        self._seen = self._found()
        self._current = self._load(self._seen)
        self._previous: Version | None = None
        self._left: str | None = None  # what a rollback left, while the path holds it

    @property
    def current(self) -> Version:
        """The version that answers. A batch asks once, so that one version answers all of it."""
        return self._current

    @property
    def previous(self) -> Version | None:
        """What a rollback would bring back."""
        return self._previous

    @property
    def state(self) -> State:
        """What another process needs to know to answer by the same."""
        with self._lock:
            return State(self._current.id, str(self._current.folder), self._left)

    def record(self, wanted: Sequence[Wanted]) -> None:
        """Remember requests, to warm the next version with."""
        self._recorded.extend(each for each in wanted[:4] if len(each.session) <= _LONGEST_RECORDED)

    def look(self) -> bool:
        """Load what is at the path, where that is not what was last seen there.

        Returns:
            Whether another version answers now. What does not load is reported once, and tried again when it changes.
        """
        with self._lock:
            try:
                found = self._found()
            except ValuerecError as error:
                # gone: being put in place, or taken away; the old one still answers
                gone = isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError))
                if not gone and str(error) != self._unreadable:
                    self._unreadable = str(error)
                    self._report("refused", {"version": None, "why": str(error)})
                return False
            self._unreadable = None
            if found == self._seen:
                return False
            if found.id == self._left:
                self._seen = found  # another process rolled back from it before this one had seen it
                return False
            self._left = None
            try:
                if found.id == self._current.id:
                    self._seen = found  # the same again, elsewhere
                    return False
                version = self._load(found)
                if self._found() != found:
                    return False  # changed meanwhile: the next look sees what it has become
            except Exception as error:  # whatever is in a folder, the version that answers goes on
                self._seen = found
                why = str(error) if isinstance(error, ValuerecError) else f"{type(error).__name__}: {error}"
                self._report("refused", {"version": found.id, "why": why})
                return False
            self._seen = found
            self._previous, self._current = self._current, version
            self._report("loaded", {"version": version.id, "previous": self._previous.id})
            return True

    def back_to(self, goal: Version) -> Rollback:
        """What brings every process to this one's version before, or keeps it at the one that answers here."""
        leaving: str | None = self._current.id
        if goal.id == leaving:
            try:
                held = self._found().id  # which other processes may have loaded, and this one not yet
            except ValuerecError:
                held = goal.id
            leaving = None if held == goal.id else held
        return Rollback(leaving, goal.id, str(goal.folder))

    def rollback(self, wanted: Rollback) -> bool:
        """Let a version before answer again, until the path holds another one than the one that is left.

        A process that has not loaded the one that is left does not do so afterwards. One that does not have the other
        in memory, because it started later, loads it from its folder.

        Returns:
            Whether that one answers now. It does not where it is in neither.
        """
        with self._lock:
            if self._current.id != wanted.to:
                version = self._previous
                if version is None or version.id != wanted.to:
                    version = self._load_from(Path(wanted.folder), wanted.to)
                if version is None:
                    return False
                self._previous, self._current = self._current, version
                self._report("rolled back", {"version": wanted.to, "previous": self._previous.id})
            self._left = wanted.leaving
            return True

    def _found(self) -> _Found:
        return _found_in(self._path.resolve())

    def _load_from(self, folder: Path, version: str) -> Version | None:
        try:
            found = _found_in(folder)
            return self._load(found) if found.id == version else None
        except Exception:  # as in `look`
            return None

    def _load(self, found: _Found) -> Version:
        folder = found.folder  # a link that changes meanwhile must not mix two folders
        engine = Engine(load(folder), self._max_disagreement)
        _warm(engine, [*self._recorded])
        metrics = read_metrics(folder / METRICS) if (folder / METRICS).is_file() else {}
        card = read_card(folder / CARD) if (folder / CARD).is_file() else ""
        return Version(found.id, engine, metrics, card, folder)


def _found_in(folder: Path) -> _Found:
    with explained_io(f"Reading {folder}"):
        state, text = (folder / MANIFEST).stat(), read_bytes(folder / MANIFEST, LARGEST_MANIFEST)
    return _Found(folder, hashlib.sha256(text).hexdigest()[:12], (state.st_dev, state.st_ino, state.st_mtime_ns))


def _warm(engine: Engine, recorded: Sequence[Wanted]) -> None:
    """Answer what was asked before, and a new visitor, and see that the answers are numbers.

    Raises:
        ValuerecError: where they are not.
    """
    possible = [each for each in recorded if engine.has_values or each.rank_by in (None, "relevance")]
    orders = [Wanted(session=())] + ([Wanted(session=(), rank_by="value")] if engine.has_values else [])
    for ranking in engine.rank([*orders, *possible]):
        for item in ranking.items:
            numbers = (item.score, item.relevance, item.value or 0.0, item.uncertainty or 0.0)
            if not all(math.isfinite(number) for number in numbers):
                raise ValuerecError(
                    f"The model answers {item.id!r} with {numbers}, which are no numbers; train it again."
                )
