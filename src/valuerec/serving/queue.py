"""Requests wait here for a moment, so that one pass over the catalogue answers several; one thread works."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from valuerec.ranking import NotWantedError, NoValuesError, Ranking, Wanted
from valuerec.serving.problems import RefusalError, queue_full, too_late
from valuerec.serving.versions import Version

_LATE: Final = 0.2  # the share of the last batch in the speed of late


class Ranked(NamedTuple):
    """Rankings, all by one version."""

    rankings: list[Ranking]
    version: Version


class _Job(NamedTuple):
    wanted: Sequence[Wanted]
    deadline: float  # of time.monotonic
    future: asyncio.Future[Ranked]
    loop: asyncio.AbstractEventLoop


class Queue:
    """A bounded queue before one worker.

    Args:
        current: the version that is to answer; asked once a batch.
        size: sessions that wait at most; the job that reaches it still enters.
        patience: seconds that a session waits at most, as far as the speed of late tells; where no batch is full,
            another job enters at any speed.
        window: seconds that the first job of a batch waits for others.
        rows: sessions ranked at once, where no single job has more.
        seen: told the sessions of each batch.
    """

    def __init__(
        self,
        current: Callable[[], Version],
        size: int,
        patience: float,
        window: float,
        rows: int,
        seen: Callable[[int, Sequence[Wanted]], None],
    ) -> None:
        self._current, self._size, self._patience = current, size, patience
        self._window, self._rows, self._seen = window, rows, seen
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._held: _Job | None = None  # what is answered next, before all that waits
        self._lock, self._waiting = threading.Lock(), 0
        self._pace = 0.0  # seconds a session of late
        self._thread = threading.Thread(target=self._work, name="ranking", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self, patience: float) -> bool:
        """End when all that waits is answered.

        Args:
            patience: seconds after which it is left to itself.

        Returns:
            Whether it has ended.
        """
        self._jobs.put(None)
        self._thread.join(patience)
        return not self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Sessions that wait."""
        return self._waiting

    @property
    def full(self) -> bool:
        """Whether the next job would be refused."""
        if self._waiting >= self._size:
            return True
        return self._waiting >= self._rows and self._waiting * self._pace > self._patience

    async def rank(self, wanted: Sequence[Wanted], deadline: float) -> Ranked:
        """Rank for each, all by one version.

        Args:
            wanted: at least one.
            deadline: of `time.monotonic`.

        Raises:
            RefusalError: where too many wait, the deadline passes, or the model can't do what is wanted.
        """
        if self.full:
            raise queue_full()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Ranked] = loop.create_future()
        self._count(len(wanted))
        self._jobs.put(_Job(wanted, deadline, future, loop))
        try:
            return await asyncio.wait_for(future, max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise too_late(len(wanted)) from None

    def _count(self, sessions: int) -> None:
        with self._lock:
            self._waiting += sessions

    def _work(self) -> None:
        while (batch := self._gather()) is not None:
            self._count(-sum(len(job.wanted) for job in batch))
            now = time.monotonic()
            live = [job for job in batch if _is_waited_for(job)]
            if live:
                self._answer(live)
                pace = (time.monotonic() - now) / sum(len(job.wanted) for job in live)
                self._pace += _LATE * (pace - self._pace)

    def _gather(self) -> list[_Job] | None:
        first = self._held or self._jobs.get()
        self._held = None
        if first is None:
            return None
        if self._waiting < self._rows:
            time.sleep(self._window)  # and not until the next job comes: each waking takes the loop's turn from it
        batch, rows = [first], len(first.wanted)
        while rows < self._rows:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            rows += len(job.wanted)
            if rows > self._rows:  # a large one, which the others need not wait for
                self._held = job
                break
            batch.append(job)
        return batch

    def _answer(self, jobs: list[_Job]) -> None:
        version = self._current()
        possible: list[tuple[_Job, Exception | None]] = []
        wanted: list[Wanted] = []
        for job in jobs:
            try:
                for each in job.wanted:
                    version.engine.check(each)
                wanted += job.wanted
                possible.append((job, None))
            except NoValuesError as error:
                possible.append((job, RefusalError(422, "no_values", str(error))))
        try:
            rankings = version.engine.rank(wanted, lambda: any(_is_waited_for(job) for job in jobs))
        except NotWantedError:
            return  # one job of many sessions, whose client has been told
        except Exception as error:  # a fault of ours must end neither the thread nor the requests without an answer
            possible = [(job, why or error) for job, why in possible]
            rankings = []
        self._seen(len(wanted), wanted)
        place, done = 0, []
        for job, why in possible:
            end = place + (0 if why else len(job.wanted))
            done.append((job.future, why or Ranked(rankings[place:end], version)))
            place = end
        jobs[0].loop.call_soon_threadsafe(_tell, done)


def _is_waited_for(job: _Job) -> bool:
    return job.deadline > time.monotonic() and not job.future.cancelled()


def _tell(done: list[tuple[asyncio.Future[Ranked], Exception | Ranked]]) -> None:
    for future, answer in done:
        if future.done():
            continue  # its deadline has passed, or its client has gone
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
