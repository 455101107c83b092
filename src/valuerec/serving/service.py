"""What a process of the service is made of, without HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from valuerec.errors import ValuerecError
from valuerec.ranking import Wanted
from valuerec.serving.catalogue import Search, read_names, read_past
from valuerec.serving.keys import Keys, Rates, new_table
from valuerec.serving.logs import Log
from valuerec.serving.metrics import Metrics
from valuerec.serving.queue import Queue
from valuerec.serving.settings import Settings
from valuerec.serving.versions import Rollback, Version, Versions

_PATIENCE: Final = 0.5  # seconds that a thread has to end when no request is in flight any more


class Service:
    """Versions, queue, keys and what else a process holds.

    Args:
        path: a RUN or a bundle, or a symbolic link to one.
        settings: options.
        log: where it tells what happens.
        table: what the keys have spent, for all processes; see `valuerec.serving.keys.Rates`.

    Raises:
        ValuerecError: where the model or one of the files can't be read.
    """

    def __init__(self, path: Path, settings: Settings, log: Log | None = None, table: int | None = None) -> None:
        self.settings, self.log = settings, log or Log(requests=settings.log_requests)
        self.name = settings.name or path.absolute().name
        self.keys = Keys(settings.keys) if settings.keys else None
        self.rates = Rates(settings.rate, new_table() if table is None else table) if settings.rate else None
        self.past = read_past(settings.sessions) if settings.sessions else []
        self.names = read_names(settings.catalogue) if settings.catalogue else {}
        self.draining = False
        # where there are several processes: of every one, and what their parent is told after each change
        self.ask_rollback: Callable[[Rollback, float], bool] = lambda wanted, deadline: self.rollback(wanted)
        self.changed: Callable[[], None] = lambda: None
        self.ended = False
        self.metrics = Metrics(lambda: self.queue.waiting)
        recorded = [[item for item, _ in past.events] for past in self.past]
        self.versions = Versions(path, settings.max_disagreement, self._report, recorded)
        self.queue = Queue(
            lambda: self.versions.current,
            settings.queue,
            settings.deadline / 2,
            settings.batch_window,
            settings.batch_rows,
            self._ranked,
        )
        self._search: tuple[Version, Search] | None = None
        self._stopped = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watching", daemon=True)

    def start(self) -> None:
        """Begin to rank and to watch."""
        self.queue.start()
        if self.settings.reload_every > 0:
            self._watcher.start()
        self.log.say("ready", name=self.name, version=self.versions.current.id)

    def stop(self) -> None:
        """Answer what waits, and end; what is computed or loaded for nobody is not waited for, and `ended` says so."""
        self._stopped.set()
        self.ended = self.queue.stop(_PATIENCE)
        if self._watcher.is_alive():
            self._watcher.join(_PATIENCE)
            self.ended = self.ended and not self._watcher.is_alive()

    def rollback(self, wanted: Rollback) -> bool:
        """See `Versions.rollback`; of this process."""
        done = self.versions.rollback(wanted)
        if not done:
            why = "It is neither in memory nor where it was; put it in place."
            self.log.say("rollback refused", version=wanted.to, why=why)
        return done

    def find(self, query: str, limit: int) -> list[str]:
        """Items of the version that answers now, by id or name."""
        version = self.versions.current
        if self._search is None or self._search[0] is not version:
            self._search = (version, Search(version.engine.model.item_ids, self.names))
        return self._search[1].find(query, limit)

    def _watch(self) -> None:
        while not self._stopped.wait(self.settings.reload_every):
            self.versions.look()
            self.changed()
            if self.keys is not None:
                try:
                    self.keys.look()
                except ValuerecError as error:
                    self.log.say("keys refused", why=str(error))

    def _report(self, what: str, fields: dict[str, Any]) -> None:
        self.metrics.changes.labels(what).inc()
        self.log.say(f"model {what}", **fields)

    def _ranked(self, sessions: int, wanted: Sequence[Wanted]) -> None:
        self.metrics.batch.observe(sessions)
        self.versions.record(wanted)
