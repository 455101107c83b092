"""A request that is refused at its header: told, counted, and no harm to what else its connection carries."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import uvicorn
import uvloop
from hypothesis import given, settings
from uvicorn.server import ServerState

from valuerec.serving.logs import Log
from valuerec.serving.metrics import Metrics
from valuerec.serving.protocol import limited, silent_log_config
from valuerec.serving.shedding import Shedding

MOST = 5


class World:
    """A server whose fullness is a switch, around an application that says what it was sent."""

    def __init__(self) -> None:
        self.full = self.draining = self.hasty = False
        self.log, self.metrics = io.StringIO(), Metrics(lambda: 0)
        self.asked: list[tuple[str, bytes]] = []
        self.faults: list[Exception] = []
        self.connections: set[Any] = set()
        self.hold = asyncio.Event()
        self.hold.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", not self.hasty
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.asked.append((scope["path"], body))
        await self.hold.wait()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})
        except Exception as fault:
            self.faults.append(fault)
            raise

    def shedding(self) -> Shedding:
        """Refuses where it is full."""
        full, draining = (lambda: self.full), (lambda: self.draining)
        return Shedding(full, MOST, MOST, 1.0, draining, self.metrics, Log(self.log))


def talk(conversation: Callable[[World, int], Awaitable[None]], keep_alive: int = 1) -> None:
    """Hold a conversation with a server at a port."""

    @contextlib.asynccontextmanager
    async def serving(world: World) -> AsyncIterator[int]:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that who reads nothing is noticed soon
        protocol = limited(100, 0.5, 10_000, world.shedding())
        config = uvicorn.Config(
            world, http=protocol, lifespan="off", log_config=silent_log_config(), timeout_keep_alive=keep_alive
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        world.connections = server.server_state.connections
        try:
            yield int(listener.getsockname()[1])
        finally:
            world.hold.set()
            for stuck in [*world.connections] if sys.exc_info()[0] else []:  # so that a failed test ends
                stuck.transport.abort()
            server.should_exit = True
            await task

    async def main() -> None:
        world = World()
        async with serving(world) as port, asyncio.timeout(20):
            await conversation(world, port)

    uvloop.run(main())


def request(
    body: bytes = b'{"session": []}', path: str = "/v1/recommend", *headers: str, version: str = "1.1"
) -> bytes:
    lines = [f"POST {path} HTTP/{version}", "host: h", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def exchange(port: int, content: bytes, answers: int = 1) -> list[tuple[int, dict[str, str], bytes]]:
    """Send, and read so many answers; then see whether the connection is still open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content)
    try:
        return [await answer(reader) for _ in range(answers)]
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in rest if line)
    return int(first.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


@pytest.mark.parametrize("path", ["/v1/recommend", "/v1/recommend/batch?x=1", "/v1/score", "/v2/models/shop/infer"])
def test_what_is_ranked_is_refused_unread_in_our_form_and_counted(path: str) -> None:
    async def conversation(world: World, port: int) -> None:
        world.full = True
        ((status, headers, body),) = await exchange(port, request(b"{no JSON", path, "X-Request-ID: mine-1"))
        error = json.loads(body)["error"]
        assert (status, error["code"], headers["retry-after"]) == (429, "queue_full", "1")
        assert headers["x-request-id"] == "mine-1" and headers["content-type"] == "application/json"
        ((_, headers, _),) = await exchange(port, request(b"", path, "X-Request-ID: no good"))
        assert len(headers["x-request-id"]) == 32 and not world.asked
        route = "/v2/models/{name}/infer" if "infer" in path else path.partition("?")[0]
        lines = [json.loads(line) for line in world.log.getvalue().splitlines()]
        assert (lines[0]["request_id"], lines[0]["route"], lines[0]["status"]) == ("mine-1", route, 429)
        assert f'valuerec_requests_total{{route="{route}",status="429"}} 2.0' in world.metrics.text().decode()

    talk(conversation)


def test_what_is_not_ranked_is_let_in() -> None:
    async def conversation(world: World, port: int) -> None:
        world.full = True
        for content in (request(path="/v1/rollback"), b"GET /v1/recommend HTTP/1.1\r\nhost: h\r\n\r\n"):
            assert (await exchange(port, content))[0][0] == 200

    talk(conversation)


def test_as_many_are_let_in_as_are_answered_in_time() -> None:
    shedding = Shedding(lambda: False, 10, 100, 0.5, lambda: False, Metrics(lambda: 0), Log(io.StringIO()))

    def answers(speed: float, under_way: int, seconds: float = 1.0) -> int:
        for turn in range(int(seconds * speed)):
            shedding.answered(under_way, turn / speed)
        return shedding.limit

    assert answers(10.0, under_way=1) == 100  # few come: that says nothing of what it could do
    assert answers(60.0, under_way=90) == pytest.approx(30, abs=2)
    assert answers(4.0, under_way=20, seconds=5) == 10 and answers(1000.0, under_way=20) == 100
    assert shedding.wanted(b"POST", b"/v1/score", 99) is None
    assert shedding.wanted(b"POST", b"/v1/score", 100) == "/v1/score"


@pytest.mark.parametrize("pieces", [1, 7, 10_000])
def test_a_connection_goes_on_after_a_refusal_however_its_bytes_arrive(pieces: int) -> None:
    async def conversation(world: World, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for turn in range(4):
            world.full = turn % 2 == 0
            body = b"%d" % turn * 50
            content = request(body)
            size = max(1, len(content) // pieces)
            for start in range(0, len(content), size):
                writer.write(content[start : start + size])
                await asyncio.sleep(0)
            assert (await answer(reader))[0] == (429 if world.full else 200)
        assert [body for _, body in world.asked] == [b"1" * 50, b"3" * 50]
        writer.close()

    talk(conversation)


def test_answers_keep_the_order_of_their_requests() -> None:
    async def conversation(world: World, port: int) -> None:
        world.hold.clear()
        asking = asyncio.create_task(exchange(port, request(b"a") + request(b"b") + request(b"c"), 3))
        while not world.asked:
            await asyncio.sleep(0.01)
        world.full = True  # b and c wait behind a already, and a refusal must not overtake it
        world.hold.set()
        assert [status for status, _, _ in await asking] == [200, 200, 200]
        refused = await exchange(port, request(b"a") + request(b"b") + request(b"c"), 3)
        assert [status for status, _, _ in refused] == [429, 429, 429]

    talk(conversation)


def test_no_more_are_let_in_than_may_be_under_way() -> None:
    async def conversation(world: World, port: int) -> None:
        world.hold.clear()
        asking = [asyncio.create_task(exchange(port, request(b"%d" % each))) for each in range(3 * MOST)]
        done, _ = await asyncio.wait(asking, timeout=1)
        assert {task.result()[0][0] for task in done} == {429} and len(done) == 2 * MOST
        world.hold.set()
        assert {(await task)[0][0] for task in asking} == {200, 429} and len(world.asked) == MOST

    talk(conversation)


@pytest.mark.parametrize("sent", [request(b"x" * 100)[:-50], request(b"x")[:-1]])
def test_who_sends_slowly_holds_up_nobody_else(sent: bytes) -> None:
    async def conversation(world: World, port: int) -> None:
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4 * MOST)]
        for _, writer in slow:
            writer.write(sent)
        await asyncio.sleep(0.1)
        assert [status for status, _, _ in await exchange(port, request(b"a") * 3, 3)] == [200, 200, 200]
        for _, writer in slow:
            writer.write(b"x" * 50)
        assert {(await answer(reader))[0] for reader, _ in slow} == {200}
        for _, writer in slow:
            writer.close()

    talk(conversation)


def test_who_leaves_with_several_requests_under_way_is_no_fault() -> None:
    async def conversation(world: World, port: int) -> None:
        world.hold.clear()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(b"a") + request(b"b"))
        while not world.asked:
            await asyncio.sleep(0.01)
        writer.transport.abort()
        await asyncio.sleep(0.1)
        world.hold.set()
        assert (await exchange(port, request(b"c")))[0][0] == 200
        assert not world.faults and [body for _, body in world.asked] == [b"a", b"c"]

    talk(conversation)


def test_a_connection_that_is_refused_again_and_again_is_not_idle() -> None:
    async def conversation(world: World, port: int) -> None:
        world.full = True
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(8):  # 2 s; idle connections are closed after 1
            writer.write(request())
            assert (await answer(reader))[0] == 429
            await asyncio.sleep(0.25)
        since = loop.time()
        assert await reader.read() == b"" and loop.time() - since < 3
        writer.close()
        assert 'route="/v1/recommend",status="429"} 8.0' in world.metrics.text().decode()

    talk(conversation)


async def stalled(world: World, port: int, content: bytes) -> socket.socket:
    """A client that sends this again and again and reads nothing, until the server can write no more."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.setblocking(False)
    before = set(world.connections)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    while not any(each.flow.write_paused for each in world.connections - before):
        await asyncio.get_running_loop().sock_sendall(client, content)
        await asyncio.sleep(0.001)
    return client


async def all_gone(world: World) -> None:
    """Wait until all connections are cut off, for which a client may take half a second."""
    async with asyncio.timeout(8):
        while world.connections:
            await asyncio.sleep(0.02)


# the second header keeps a refused request from the parser, the third does not
STALLING = [(False, "x-y: z"), (True, "connection: keep-alive"), (True, "connection:keep-alive")]


@pytest.mark.parametrize(
    "then", [b"", request(b"x", "/v1/score"), b"GET /v2/health/live HTTP/1.1\r\n\r\n", b"POST /v1"]
)
@pytest.mark.parametrize(("full", "header"), STALLING)
def test_who_does_not_read_is_cut_off_whatever_else_it_sends(full: bool, header: str, then: bytes) -> None:
    async def conversation(world: World, port: int) -> None:
        world.full = full
        clients = [await stalled(world, port, request(b"x", "/v1/score", header)) for _ in range(MOST)]
        for client in clients:
            await asyncio.get_running_loop().sock_sendall(client, then)
        await all_gone(world)
        world.full = False
        assert (await exchange(port, request(b"a")))[0][0] == 200  # and none of them counts as under way
        for client in clients:
            client.close()

    talk(conversation, keep_alive=60)


def test_a_header_that_was_begun_before_its_sender_read_again_must_end_in_time() -> None:
    async def conversation(world: World, port: int) -> None:
        loop = asyncio.get_running_loop()
        client = await stalled(world, port, request(b"x", "/v1/score"))
        await loop.sock_sendall(client, b"GET /a HT")
        with contextlib.suppress(TimeoutError):
            while await asyncio.wait_for(loop.sock_recv(client, 1 << 16), 0.2):
                pass
        await all_gone(world)
        client.close()

    talk(conversation, keep_alive=60)


@pytest.mark.parametrize("before", [b"\r\n\r\n", request(b"a", "/v1/score")])
def test_what_comes_behind_a_header_that_was_begun_belongs_to_it(before: bytes) -> None:
    begun = before + b"POST /v1/rollback HTTP/1.1\r\nx: "
    rest, last = request(b"12345", "/v1/recommend", "x-request-id: inner"), request(b"c", "/v1/score")
    apart, whole = heard([begun, rest, last]), heard([begun + rest, last])
    assert apart == whole and b"inner" not in apart[0]
    assert apart[2] == [("/v1/rollback", b"12345")]


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = b"", False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


def heard(pieces: list[bytes], full: bool = True) -> tuple[bytes, bool, list[tuple[str, bytes]]]:
    """What is written to who sends these pieces, ids that were made up left out; whether that closes; what got in."""

    async def main() -> tuple[bytes, bool, list[tuple[str, bytes]]]:
        world, wire = World(), Wire()
        world.full = full
        config = uvicorn.Config(world, log_config=silent_log_config())
        config.load()
        kind = limited(100, 5.0, 10_000, world.shedding())
        protocol = kind(config=config, server_state=ServerState(), app_state={})
        protocol.connection_made(wire)
        for piece in pieces:
            protocol.data_received(piece)
            await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        protocol.connection_lost(None)
        assert protocol.timeout_keep_alive_task is None
        return re.sub(rb"request-id: [0-9a-f]{32}", b"", wire.written), wire.closed, world.asked

    return asyncio.run(main())


STARTS = [
    "POST /v1/recommend HTTP/1.1",
    "POST /v1/score HTTP/1.1",
    "POST /v2/models/a.b/infer HTTP/1.1",
    "POST /v1/score HTTP/1.1 ",
    "POST /v1/recommend?x=1 HTTP/1.1",
    "POST /v1/recommend HTTP/1.0",
    "GET /v1/recommend HTTP/1.1",
    "POST /v1/score",
    "post /v1/score HTTP/1.1",
    "POST http://h/v1/score HTTP/1.1",
    "POST  /v1/score HTTP/1.1",
    "POST /v1/rollback HTTP/1.1",
    "",
]
LENGTHS = [
    "content-length: 5",
    "Content-Length: 05",
    "content-length: 5 ",
    "content-length:5",
    "content-length: 6",
    "content-length: 4",
    "content-length: 5, 5",
    "content-length: +5",
    "content-length: 99999999999",
    "content-length: 5\ncontent-length: 5",
    "x: content-length: 5",
    " content-length: 5",
    "content_length: 5",
    "content-length: 5\t",
]
LINES = [
    "Content-Type: application/json",
    "X-Request-ID: mine",
    "x-request-id: no good",
    "x-request-id:tight",
    "X-Request-Id: 12 ",
    "x-request-id:  12",
    "connection: keep-alive",
    "Connection: Keep-Alive",
    "connection: close",
    "Connection:close",
    "connection: keep-alive, close",
    "transfer-encoding: chunked",
    "Expect: 100-continue",
    "upgrade: websocket",
    "connection: upgrade",
    "no colon",
    " folded: 5",
    "x: a\n b",
    "a b: c",
    ": nameless",
    "x:",
    "",
    "x: \x00",
    "x: ü",
    "content-length: 5",
    "content-length: 6",
]


def assert_agreement(start: str, lines: list[str], body: bytes, cut: int | None = None) -> None:
    """The plain way is a request that comes in two pieces: it always goes through the parser."""
    content = "\r\n".join([start, *lines, "", ""]).encode("latin-1") + body
    if World().shedding().at_once(content, 1000, 1000):
        cut = cut or len(content) // 2
        follow = request(b"the next", "/v1/score", "x-request-id: next")
        assert heard([content, follow]) == heard([content[:cut], content[cut:], follow])


@pytest.mark.parametrize("start", STARTS)
def test_a_start_that_is_refused_without_the_parser_is_one_that_the_parser_refuses(start: str) -> None:
    assert_agreement(start, ["host: h", LENGTHS[0]], b"12345")


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("body", [b"12345", b"", b"1234", b"5\r\n12345\r\n0\r\n\r\n", b"123456"])
def test_a_body_that_is_refused_without_the_parser_is_one_that_the_parser_refuses(length: str, body: bytes) -> None:
    assert_agreement(STARTS[0], ["host: h", length], body)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=2), st.integers(1, 60))
def test_headers_that_are_refused_without_the_parser_are_what_the_parser_refuses(lines: list[str], cut: int) -> None:
    assert_agreement(STARTS[0], [LENGTHS[0], *lines], b"12345", cut)
    assert_agreement(STARTS[0], [*lines, LENGTHS[0]], b"12345", cut)


def test_most_requests_are_refused_without_the_parser() -> None:
    shedding = World().shedding()
    for content in (
        request(),
        request(b"", "/v1/score", "Connection: keep-alive", "X-Request-ID: a", "X-B3-Sampled: 1"),
    ):
        assert shedding.at_once(content, 1000, 1000)
        assert not shedding.at_once(content + b" ", 1000, 1000) and not shedding.at_once(content, 20, 1000)
    assert not shedding.at_once(request(b"x" * 11), 1000, 10)


@pytest.mark.parametrize(
    ("headers", "version", "draining"),
    [
        (["connection: close"], "1.1", False),
        ([], "1.0", False),
        (["expect: 100-continue"], "1.1", False),
        ([], "1.1", True),
    ],
)
def test_a_refusal_closes_where_the_connection_can_not_go_on(headers: list[str], version: str, draining: bool) -> None:
    async def conversation(world: World, port: int) -> None:
        world.full, world.draining = True, draining
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(b"x", "/v1/recommend", *headers, version=version) + request())
        status, told, _ = await answer(reader)
        assert status == 429 and told["connection"] == "close" and await reader.read() == b""
        assert not world.asked
        writer.close()

    talk(conversation)


@pytest.mark.parametrize("size", [100, 9_000])
def test_a_connection_goes_on_after_an_answer_that_came_before_the_body(size: int) -> None:
    async def conversation(world: World, port: int) -> None:
        world.hasty = True
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for turn in range(3):
            content = request(b"%d" % turn * size)
            writer.write(content[:-50])
            assert (await answer(reader))[0] == 200
            writer.write(content[-50:])
        world.hasty = False
        writer.write(request(b"the last"))
        assert (await answer(reader))[0] == 200 and world.asked[-1][1] == b"the last"
        writer.close()

    talk(conversation)


async def cut_off_after(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes, pause: float) -> float:
    """Goes on sending until the other side has had enough: the seconds that took."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    with contextlib.suppress(ConnectionError):
        while not reader.at_eof():
            writer.write(sent)
            await writer.drain()
            await asyncio.sleep(pause)
    writer.close()
    return loop.time() - start


@pytest.mark.parametrize(("sent", "pause"), [(b"1\r\nx\r\n", 0.05), (b"3e8\r\n%s\r\n" % (b"x" * 1000), 0)])
@pytest.mark.parametrize("headers", [[], ["expect: 100-continue"]])
def test_who_goes_on_sending_after_its_answer_is_cut_off(sent: bytes, pause: float, headers: list[str]) -> None:
    async def conversation(world: World, port: int) -> None:
        world.hasty = True
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            "\r\n".join(["POST /x HTTP/1.1", "host: h", "transfer-encoding: chunked", *headers, "", ""]).encode()
        )
        assert (await answer(reader))[0] == 200
        assert await cut_off_after(reader, writer, sent, pause) < 3

    talk(conversation)


def test_a_trailer_that_does_not_end_is_cut_off() -> None:
    async def conversation(world: World, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /x HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\na: ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and sent < 50_000_000:
                writer.write(b"b" * 10_000)
                await writer.drain()
                sent += 10_000
        assert sent < 50_000_000
        writer.close()

    talk(conversation)


def test_many_small_chunks_are_no_trailer() -> None:
    async def conversation(world: World, port: int) -> None:
        content = b"POST /x HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
        content += b"1\r\nx\r\n" * 20_000 + b"0\r\nok: yes\r\n\r\n"
        assert (await exchange(port, content))[0][0] == 200 and world.asked == [("/x", b"x" * 20_000)]

    talk(conversation)


@pytest.mark.parametrize("sent", [0, 20_000])
def test_a_body_that_does_not_end_is_cut_off(sent: int) -> None:
    async def conversation(world: World, port: int) -> None:
        world.full = True
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(b" " * 100_000)[:100] + b" " * sent)
        assert (await answer(reader))[0] == 429
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""

    talk(conversation)
