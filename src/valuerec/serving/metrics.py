"""What Prometheus is told; over all processes, where there are several."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"  # the client's own variable: a folder in which processes add up
_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.06, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_AT_ONCE: Final = 64  # refusals
_SESSIONS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The service's numbers.

    Args:
        waiting: asked, when numbers are fetched, how many sessions wait.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._waiting = waiting
        self._answers: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._refused: collections.Counter[str] = collections.Counter()
        self._registry = own = CollectorRegistry()
        self.requests = Counter("valuerec_requests", "Requests answered.", ["route", "status"], registry=own)
        self.seconds = Histogram(
            "valuerec_request_seconds",
            "From a request's header to its answer; without those refused at their header.",
            ["route"],
            buckets=_SECONDS,
            registry=own,
        )
        self.batch = Histogram("valuerec_batch_sessions", "Sessions ranked at once.", buckets=_SESSIONS, registry=own)
        self.fallbacks = Counter("valuerec_fallbacks", "Answers by relevance in place of value.", registry=own)
        self.changes = Counter(
            "valuerec_model_changes", "What became of models put in place.", ["outcome"], registry=own
        )
        self._depth = Gauge(
            "valuerec_waiting_sessions", "Sessions that wait to be ranked.", registry=own, multiprocess_mode="livesum"
        )

    def tell(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        labels = self._answers.get((route, status))
        if labels is None:  # the client's own look-up of labels takes as long as a refusal
            labels = self.requests.labels(route, str(status)), self.seconds.labels(route)
            self._answers[route, status] = labels
        labels[0].inc()
        labels[1].observe(seconds)
        self.tell_all()
        self._depth.set(self._waiting())  # so that whichever process is asked for the numbers knows all of them

    def tell_refused(self, route: str) -> None:
        """Count a request that is refused at its header, together with others: the client takes long for each."""
        self._refused[route] += 1
        if self._refused[route] >= _AT_ONCE:
            self.tell_all()

    def tell_all(self) -> None:
        """Tell the client what it was not told yet."""
        while self._refused:
            route, count = self._refused.popitem()
            self.requests.labels(route, "429").inc(count)

    def text(self) -> bytes:
        """All of it, in Prometheus' format."""
        self.tell_all()
        self._depth.set(self._waiting())
        if os.environ.get(SHARED):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            return generate_latest(registry)
        return generate_latest(self._registry)
