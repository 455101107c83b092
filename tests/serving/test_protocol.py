"""What comes over a socket that no HTTP library would send."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from serving_tools import Process, made_up_run

BODY = b'{"session": []}'
GOOD = (
    b"POST /v1/recommend HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    % len(BODY)
) + BODY


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path = made_up_run(tmp_path_factory.mktemp("sockets") / "run", 50, heads=0)
    process = Process(
        path, "--processes", "1", "--client-timeout", "0.5", "--max-connections", "4", "--drain-delay", "0"
    )
    try:
        asyncio.run(process.ready())
        yield process.port
    finally:
        assert process.end() == 0


def talk(port: int, content: bytes, half_close: bool = False) -> bytes:
    """All that comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(content)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        parts = []
        try:
            while part := client.recv(1 << 16):
                parts.append(part)
        except ConnectionResetError:
            pass
        return b"".join(parts)


def test_a_client_that_has_said_all_gets_its_answer(port: int) -> None:
    answer = talk(port, GOOD, half_close=True)
    assert answer.startswith(b"HTTP/1.1 200") and b'"items"' in answer


def test_a_whole_request_is_answered_whatever_follows_it(port: int) -> None:
    answer = talk(port, GOOD + b"\x00\xff no request\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200") and answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("path", [b"/", b"/metrics", b"/v1/model", b"/v2/health/live"])
def test_head_is_answered_without_a_body(port: int, path: bytes) -> None:
    head, _, body = talk(port, b"HEAD %b HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n" % path).partition(
        b"\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 200") and b"content-length: " in head and not body


def test_what_is_no_http_is_told_in_our_form(port: int) -> None:
    answer = talk(port, b"HELLO\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400") and b'{"error": {"code": "bad_request"' in answer


def test_a_header_is_bounded(port: int) -> None:
    answer = talk(port, b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 40_000)
    assert answer.startswith(b"HTTP/1.1 431") and b"header_too_large" in answer


@pytest.mark.parametrize("content", [b"", b"GET / HT", b"GET /v2/health/live HTTP/1.1\r\nhost: h\r\n"])
def test_a_client_that_says_nothing_more_is_cut_off(port: int, content: bytes) -> None:
    start = time.monotonic()
    assert talk(port, content) == b""
    assert 0.3 < time.monotonic() - start < 8


def test_a_body_that_stays_away_is_refused(port: int) -> None:
    assert talk(port, GOOD[:-3]).startswith(b"HTTP/1.1 408")


def test_connections_are_bounded(port: int) -> None:
    held = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(4)]
    try:
        time.sleep(0.1)
        assert talk(port, b"").startswith(b"HTTP/1.1 503")
    finally:
        for one in held:
            one.close()
    time.sleep(0.2)
    assert talk(port, GOOD, half_close=True).startswith(b"HTTP/1.1 200")
