from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from test_ranking import made_up
from valuerec.ranking import Engine, Wanted
from valuerec.serving.problems import RefusalError
from valuerec.serving.queue import Queue
from valuerec.serving.versions import Version

SLOW = 0.05  # seconds of a portion


@contextmanager
def slow_queue(patch: pytest.MonkeyPatch, rows: int = 4) -> Iterator[tuple[Queue, list[int]]]:
    """A queue before an engine that ranks two sessions by value in `SLOW` seconds, and the sizes of its portions."""
    engine, portions = Engine(made_up()), []
    engine._most_valued = 2
    block = engine._block

    def slowly(wanted: Any) -> Any:
        portions.append(len(wanted))
        time.sleep(SLOW)
        return block(wanted)

    patch.setattr(engine, "_block", slowly)
    version = Version("v", engine, {}, "", Path())
    queue = Queue(lambda: version, 10_000, 1.0, 0.0, rows, lambda count, wanted: None)
    queue.start()
    yield queue, portions
    queue.stop(60)


def by_value(sessions: int) -> list[Wanted]:
    return [Wanted(session=[f"i{number % 60:02d}"], k=3, rank_by="value") for number in range(sessions)]


def test_a_job_that_is_too_large_holds_the_engine_until_its_deadline_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def both(queue: Queue) -> Any:
        large = asyncio.create_task(queue.rank(by_value(200), time.monotonic() + 4 * SLOW))
        await asyncio.sleep(SLOW / 2)
        small = await queue.rank(by_value(1), time.monotonic() + 60)
        with pytest.raises(RefusalError, match="send fewer sessions at once") as refused:
            await large
        return small, refused.value

    with slow_queue(monkeypatch) as (queue, portions):
        small, refused = asyncio.run(both(queue))
    assert refused.status == 503 and len(small.rankings) == 1
    assert portions[-1] == 1 and len(portions) < 100  # the rest of the two hundred was left alone


def test_a_job_of_many_sessions_is_answered_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    with slow_queue(monkeypatch) as (queue, portions):
        ranked = asyncio.run(queue.rank(by_value(9), time.monotonic() + 60))
    assert portions == [2, 2, 2, 2, 1]
    alone = Engine(made_up()).rank(by_value(9))
    assert [[item.id for item in each.items] for each in ranked.rankings] == [
        [item.id for item in each.items] for each in alone
    ]


def test_small_jobs_do_not_wait_for_a_large_one_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def in_turn(queue: Queue) -> list[str]:
        done: list[str] = []

        async def one(name: str, sessions: int) -> None:
            await queue.rank(by_value(sessions), time.monotonic() + 60)
            done.append(name)

        first = asyncio.create_task(one("first", 1))
        await asyncio.sleep(SLOW / 4)  # the first is being ranked; the others wait behind it
        await asyncio.gather(first, one("small", 1), one("large", 20), one("last", 1))
        return done

    with slow_queue(monkeypatch) as (queue, portions):
        assert asyncio.run(in_turn(queue)) == ["first", "small", "large", "last"]
    assert portions == [1, 1, *[2] * 10, 1]
