"""What a process of the service is made of, without HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from valuerec.errors import ValuerecError
from valuerec.ranking import Wanted
from valuerec.serving.catalogue import Search, read_names, read_past
from valuerec.serving.keys import Keys, Rates
from valuerec.serving.logs import Log
from valuerec.serving.metrics import Metrics
from valuerec.serving.queue import Queue
from valuerec.serving.settings import Settings
from valuerec.serving.versions import Version, Versions


class Service:
    """Versions, queue, keys and what else a process holds.

    Args:
        path: a RUN or a bundle, or a symbolic link to one.
        settings: options.
        log: where it tells what happens.
        processes: how many share the load; each lets a key have its part of the rate.

    Raises:
        ValuerecError: where the model or one of the files can't be read.
    """

    def __init__(self, path: Path, settings: Settings, log: Log | None = None, processes: int = 1) -> None:
        self.settings, self.log = settings, log or Log(requests=settings.log_requests)
        self.name = settings.name or path.absolute().name
        self.keys = Keys(settings.keys) if settings.keys else None
        self.rates = Rates(settings.rate / processes) if settings.rate else None
        self.past = read_past(settings.sessions) if settings.sessions else []
        self.names = read_names(settings.catalogue) if settings.catalogue else {}
        self.draining = False
        self.ask_rollback: Callable[[str, str], object] = self.rollback  # of every process, where there are several
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
        """Answer what waits, and end."""
        self._stopped.set()
        self.queue.stop()
        if self._watcher.is_alive():
            self._watcher.join(timeout=1)

    def rollback(self, leaving: str, to: str) -> None:
        """See `Versions.rollback`; of this process."""
        if not self.versions.rollback(leaving, to):
            self.log.say("rollback refused", version=to, why="This process has not had it; put it in place.")

    def find(self, query: str, limit: int) -> list[str]:
        """Items of the version that answers now, by id or name."""
        version = self.versions.current
        if self._search is None or self._search[0] is not version:
            self._search = (version, Search(version.engine.model.item_ids, self.names))
        return self._search[1].find(query, limit)

    def _watch(self) -> None:
        while not self._stopped.wait(self.settings.reload_every):
            self.versions.look()
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
