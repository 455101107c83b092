"""A service in a process of its own, by the benchmarks' scripts at small counts."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

import serving_drains
import serving_fuzz
import serving_load
import serving_overload
import serving_reloads
import serving_schema
import serving_tools


def test_under_load_every_answer_is_exact(tmp_path: Path) -> None:
    result = asyncio.run(serving_load.measure(tmp_path, 300, 20.0, 1.0, 40, [], heads=3))
    assert result["exact"] == "40 of 40"
    assert set(result["statuses"]) == {"200"} and result["p99_ms"] > 0


def test_models_change_under_load_without_a_failed_or_mixed_answer(tmp_path: Path) -> None:
    result = asyncio.run(serving_reloads.measure(tmp_path, 200, 10, 20.0))
    assert result["failed"] == result["mixed_versions"] == result["corrupt_went_live"] == 0
    assert result["corrupt_refused"] == 1 and result["requests"] > 0


def test_sigterm_loses_nothing_that_is_in_flight(tmp_path: Path) -> None:
    result = asyncio.run(serving_drains.measure(tmp_path, 200, 1, 100.0))
    assert result["lost"] == result["refused"] == result["ended_wrongly"] == 0 and result["requests"] > 0


def test_overload_is_refused_in_the_way_that_is_told(tmp_path: Path) -> None:
    result = asyncio.run(serving_overload.measure(tmp_path, 200, 3.0, 1.5, 3, step=0.4))
    assert result["other_refusals"] == 0 and result["alive"]
    assert result["peak_goodput"] > 0 and result["overload"]["statuses"]["200"] > 0
    assert len(result["steps"]) >= 8 and result["peak_goodput"] == pytest.approx(
        result["steps"][-1]["goodput"], abs=0.1
    )


def test_what_no_client_should_send_harms_nobody(tmp_path: Path) -> None:
    result = asyncio.run(serving_fuzz.measure(tmp_path, 200, 150, 30))
    assert result["alive"] and result["answers_of_5xx"] == result["faults"] == result["good_requests_failed"] == 0
    assert result["talkers_cut_off"] == result["talkers"] >= 2 and result["status_after_them"] == 200


@pytest.mark.slow
def test_what_its_own_description_allows_and_forbids_is_answered_as_it_says(tmp_path: Path) -> None:
    result = asyncio.run(serving_schema.measure(tmp_path, 150))
    assert result["alive"] and result["cases"] >= 150 and result["statuses"]["200"] > 30
    assert not result["examples_of_faults"] and not result["examples_not_as_told"]
    assert result["answers_of_5xx"] == result["no_answer"] == result["faults_in_the_log"] == 0


def test_two_processes_share_a_port_survive_a_death_and_end_together(tmp_path: Path) -> None:
    path = serving_tools.made_up_run(tmp_path / "run", 100, heads=3)

    async def talk() -> None:
        process = serving_tools.Process(path, "--processes", "2", "--drain-delay", "0")
        try:
            await process.ready()
            await until(lambda: count(process, "ready") == 2)
            children = children_of(process.process.pid)
            assert len(children) >= 2
            os.kill(children[-1], signal.SIGKILL)
            await until(lambda: count(process, "process died") == 1 and count(process, "ready") == 3)
            for _ in range(20):
                reply = await serving_tools.Connection(process.port).post("/v1/recommend", {"session": []})
                assert reply.status == 200
            reply = await serving_tools.Connection(process.port).get("/metrics")
            assert b'valuerec_requests_total{route="/v1/recommend",status="200"} 20.0' in reply.body  # of both
        finally:
            assert process.end() == 0
        assert not [child for child in children if Path(f"/proc/{child}").exists()]

    asyncio.run(talk())


async def until(condition: object, patience: float = 120.0) -> None:
    end = time.monotonic() + patience
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it never came to be"
        await asyncio.sleep(0.1)


def count(process: serving_tools.Process, event: str) -> int:
    return sum(line.get("event") == event for line in process.log())


def children_of(pid: int) -> list[int]:
    """Those that serve; the resource tracker of Python's is none."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in children if b"valuerec.serving.child" in Path(f"/proc/{child}/cmdline").read_bytes()]
