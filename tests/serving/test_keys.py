"""Keys of a file, and how often each may ask."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from valuerec.serving.keys import Keys, Rates, new_key, new_table


@pytest.mark.parametrize("before", [b"", b"# ours", b"# ours\n", b"old " + b"0" * 64, b"old " + b"0" * 64 + b"\r\n"])
def test_a_new_key_has_a_line_of_its_own(tmp_path: Path, before: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(before)
    key = new_key(file, "shop")
    assert Keys(file).owner(key) == "shop"
    assert file.read_bytes() == before + b"\n" * before.endswith((b"s", b"0")) + (
        f"shop {hashlib.sha256(key.encode()).hexdigest()}\n".encode()
    )


def test_a_bucket_fills_with_time() -> None:
    now = [0.0]
    rates = Rates(2.0, new_table(), clock=lambda: now[0])
    assert [rates.take("a") for _ in range(3)] == [0.0, 0.0, 0.5]
    assert rates.take("b") == 0.0  # has one of its own
    now[0] = 0.5
    assert rates.take("a") == 0.0 and rates.take("a") > 0
    now[0] = 100.0
    assert rates.take("a", 6) == 0.0  # more than it holds, when full, and paid for afterwards
    now[0] = 102.0
    assert rates.take("a") > 0


def test_a_request_that_has_taken_one_gets_the_rest_where_it_would_have_got_all() -> None:
    now = [0.0]
    rates = Rates(50.3, new_table(), clock=lambda: now[0])
    assert rates.take("a") == 0.0 and rates.take("a", 256, taken=1) == 0.0  # full
    wait = rates.take("a")
    assert wait == pytest.approx((256 - 50.3 + 1) / 50.3)
    now[0] += wait + 1e-6
    assert rates.take("a") == 0.0
    wait = rates.take("a", 256, taken=1)
    assert wait > 0.9  # not full
    now[0] += wait
    assert rates.take("a") == 0.0 and rates.take("a", 256, taken=1) == 0.0  # when it was told to come again


def test_processes_share_a_bucket() -> None:
    """At a moment that stays, two take exactly what there is."""
    table = new_table()
    script = (
        "import sys; from valuerec.serving.keys import Rates; rates = Rates(1000.0, int(sys.argv[1]), lambda: 5.0);"
        "print(sum(rates.take('a') == 0.0 for _ in range(800)))"
    )
    command = [sys.executable, "-c", script, str(table)]
    both = [subprocess.Popen(command, pass_fds=(table,), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    got = [int(each.communicate(timeout=120)[0]) for each in both]
    assert sum(got) == 1000 and min(got) >= 200
