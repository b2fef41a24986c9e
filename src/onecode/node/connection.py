"""One HTTP/1.1 connection: requests are parsed, answered in their order, and bounded in size, number and time."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import httptools

from onecode.errors import Malformed, OnecodeError, Unreachable
from onecode.node.buckets import address_group
from onecode.node.routes import Request, Response, Streaming, internal, problem
from onecode.node.streams import Channel

if TYPE_CHECKING:
    from onecode.node.http import HttpServer

HEAD_BYTES_MAX = 16_384
HEADERS_MAX = 64
PIPELINE_MAX = 32
LINGER_S = 2.0  # how long a refused client may take to read why


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of one server process. Times in milliseconds; 0 means none for what is counted by address."""

    body_bytes_max: int = 524_288
    request_timeout_ms: int = 10_000  # from a request's first byte to its last; for a client that reads nothing
    idle_timeout_ms: int = 75_000
    connections_max: int = 1_000
    address_requests_per_s: int = 500
    address_burst: int = 1_000
    address_connections_max: int = 256


@lru_cache(maxsize=256)
def _head(status: int, content_type: bytes, keep_alive: bool) -> bytes:
    phrase = HTTPStatus(status).phrase.encode("ascii")
    close = b"" if keep_alive else b"connection: close\r\n"
    return b"HTTP/1.1 %d %s\r\n%scontent-type: %s\r\ncontent-length: " % (status, phrase, close, content_type)


class Connection(asyncio.Protocol):
    """One client. Whatever it sends or whenever it leaves, nothing raises into the loop."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._address = ""
        self._queue: deque[Request | Response] = deque()  # a Response is a refusal: it is the connection's last
        self._queued_bytes = 0  # of the bodies in the queue
        self._busy = self._advancing = self._refused = self._eof = self._full = False
        self._serial = 0  # of the request being answered, so that no answer counts twice
        self._began = 0.0  # when that request was whole
        self._channel: Channel | None = None
        self._receiving_since: float | None = None
        self._quiet_since = server.loop.time()  # when the last answer was written
        self._closing_since: float | None = None
        self._head_bytes = self._body_bytes = 0
        self._in_head = True
        self._progress = False  # whether a request began or ended in the bytes at hand
        self._paused = False
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    # --- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        self._address = address_group(str(peer[0])) if peer else ""
        server, limits = self._server, self._server.limits
        server.connections.add(self)
        server.addresses[self._address] += 1
        if len(server.connections) > limits.connections_max:
            self._refuse(Unreachable("http.connections", "this node has too many connections", retry_after_ms=1_000))
        elif limits.address_connections_max and server.addresses[self._address] > limits.address_connections_max:
            self._refuse(
                Unreachable(
                    "http.connections", "too many connections from this address", status=429, retry_after_ms=1_000
                )
            )

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._queue.clear()
        self._server.connections.discard(self)
        self._server.addresses[self._address] -= 1
        if not self._server.addresses[self._address]:
            del self._server.addresses[self._address]
        if self._channel is not None:
            self._channel.lose()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._receiving_since is None:
            self._receiving_since = self._server.loop.time()
        self._progress = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(Malformed("http.upgrade", "this server speaks HTTP/1.1 only"))
        except httptools.HttpParserError as error:
            self._refuse(Malformed("http.malformed", f"this is no HTTP/1.1 request: {error}"))
        if self._in_head and not self._progress:  # one line of the head that does not end
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse_head()
        self._advance()
        transport = self._live()
        if self._is_full() and not self._paused and transport is not None:
            self._paused = True
            transport.pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        if self._channel is not None:
            self._channel.close()  # a stream is not kept for one who may have left
        return bool(self._busy or self._queue)  # a client may stop sending and still wait for its answers

    def pause_writing(self) -> None:
        self._full = True
        self._quiet_since = self._server.loop.time()
        if self._channel is not None:
            self._channel.pause()

    def resume_writing(self) -> None:
        self._full = False
        if self._channel is not None:
            self._channel.resume()
        self._advance()

    # --- the parser's calls: they must not raise

    def on_message_begin(self) -> None:
        if self._receiving_since is None:  # the next of several in one packet
            self._receiving_since = self._server.loop.time()
        self._url, self._headers, self._body = b"", {}, []
        self._in_head, self._progress, self._head_bytes, self._body_bytes = True, True, 0, 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > HEAD_BYTES_MAX:
            self._refuse_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # a trailer: it could say what the head did not
            self._refuse(Malformed("http.trailer", "header lines after the body are not taken here"))
            return
        key = name.decode("latin-1").lower()
        if key in self._headers:  # which of the two counts would depend on who reads
            self._refuse(Malformed("http.header_twice", "a header line stands twice", field=key[:40]))
            return
        self._headers[key] = value.decode("latin-1")
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MAX or len(self._headers) > HEADERS_MAX:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        length = self._headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._server.limits.body_bytes_max:
            self._refuse_body()
        elif self._headers.get("expect", "").lower() == "100-continue" and not self._busy and not self._queue:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._server.limits.body_bytes_max:
            self._refuse_body()
        elif not self._refused:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._receiving_since = None
        self._in_head, self._progress, self._head_bytes = True, True, 0
        if self._refused:
            return
        method = self._parser.get_method().decode("latin-1")
        keep_alive = self._parser.should_keep_alive()
        target = self._url.decode("latin-1")
        self._queue.append(Request(method, target, self._headers, b"".join(self._body), keep_alive, {}))
        self._queued_bytes += self._body_bytes

    def _is_full(self) -> bool:
        """Whether enough requests wait here: reading stops until some are answered. One body always fits."""
        return len(self._queue) >= PIPELINE_MAX or self._queued_bytes >= self._server.limits.body_bytes_max

    # --- requests and answers

    def _refuse_head(self) -> None:
        self._refuse(Malformed("http.head_too_large", "the header lines are too many or too long", status=413))

    def _refuse_body(self) -> None:
        size = self._server.limits.body_bytes_max
        self._refuse(Malformed("http.body_too_large", f"a body has at most {size} bytes here", status=413))

    def _refuse(self, error: OnecodeError) -> None:
        """Answer what came before, then this, then end the connection."""
        if not self._refused:
            self._refused = True
            self._receiving_since = None
            self._queue.append(problem(error))
            if self._server.meter is not None:
                self._server.meter.answered(-1, error.status, error.code, 0)
            self._advance()

    def _advance(self) -> None:
        """Start the next request; answers given at once are taken in this loop, not by recursion."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._queue and not self._busy and not self._full and self._transport is not None:
                item = self._queue.popleft()
                if isinstance(item, Response):
                    self._send(item, keep_alive=False)
                else:
                    self._queued_bytes -= len(item.body)
                    self._dispatch(item)
        finally:
            self._advancing = False
        if not self._is_full():
            self._resume()
        if not self._busy and not self._queue and (self._eof or self._server.stopping):
            self._close()

    def _dispatch(self, request: Request) -> None:
        self._busy = True
        self._serial += 1
        self._began = self._server.loop.time()
        reply = partial(self._reply, self._serial, request)
        wait_s = self._server.buckets.wait_s(self._address, self._began)
        try:
            if wait_s:
                raise Unreachable(
                    "http.rate",
                    "too many requests from this address",
                    status=429,
                    retry_after_ms=math.ceil(wait_s * 1000),
                )
            self._server.handler(request, reply)
        except OnecodeError as error:
            reply(problem(error))
        except Exception as error:
            reply(internal(error))

    def _reply(self, serial: int, request: Request, response: Response | Streaming) -> None:
        if serial != self._serial or not self._busy or self._channel is not None:
            return
        code = "" if isinstance(response, Streaming) else response.code
        if self._server.meter is not None:
            status = 200 if isinstance(response, Streaming) else response.status
            self._server.meter.answered(request.route, status, code, self._server.loop.time() - self._began)
        if isinstance(response, Streaming):
            self._stream(response, chunked=self._parser.get_http_version() == "1.1")
            return
        self._busy = False
        self._send(response, keep_alive=request.keep_alive and not self._server.stopping)
        self._advance()

    def _stream(self, response: Streaming, *, chunked: bool) -> None:
        """Begin an answer in parts; it is the connection's last."""
        coding = b"transfer-encoding: chunked\r\n" if chunked else b""
        head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: %s\r\n%s\r\n"
        self._write(head % (response.content_type, coding))
        self._channel = channel = Channel(self._write, chunked=chunked)
        channel.task = self._server.loop.create_task(response.run(channel))
        channel.task.add_done_callback(partial(self._streamed, response.done))

    def _streamed(self, done: Callable[[], None], task: asyncio.Task[None]) -> None:
        done()
        channel, self._channel = self._channel, None
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, OnecodeError):
            internal(error)  # type: ignore[arg-type] # logs it
            self.abort()  # without the mark of the end: the client knows that more was to come
        elif channel is not None:
            channel.end()
        self._busy = False
        self._queue.clear()
        self._refused = True
        self._linger()

    def _send(self, response: Response, *, keep_alive: bool) -> None:
        head = _head(response.status, response.content_type, keep_alive)
        self._write(b"%s%d\r\n%s\r\n%s" % (head, len(response.body), response.headers, response.body))
        self._quiet_since = self._server.loop.time()
        if not keep_alive:
            self._queue.clear()
            self._refused = True  # what still comes is not read
            self._linger()

    def _write(self, data: bytes) -> None:
        transport = self._live()
        if transport is not None:
            transport.write(data)

    def _live(self) -> asyncio.Transport | None:
        """The transport while it can be used."""
        transport = self._transport
        return None if transport is None or transport.is_closing() else transport

    def _resume(self) -> None:
        transport = self._live()
        if self._paused and transport is not None:
            self._paused = False
            transport.resume_reading()

    # --- the end

    def _linger(self) -> None:
        """Close after the client has read: to close with unread input would make the kernel take the answer back."""
        transport = self._live()
        if transport is None:
            return
        self._closing_since = self._server.loop.time()
        self._resume()
        if self._eof or not transport.can_write_eof():
            transport.close()
        else:
            transport.write_eof()

    def _close(self) -> None:
        transport = self._live()
        if transport is not None:
            self._closing_since = self._server.loop.time()
            transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close_when_idle(self) -> None:
        if self._channel is not None:
            self._channel.close()
        elif not self._busy and not self._queue:
            self._close()

    def check_time(self, now_s: float) -> None:
        """End what takes too long: a closing client, one that reads nothing, one that sends slowly, an idle one."""
        request_s = self._server.limits.request_timeout_ms / 1000
        if self._closing_since is not None:
            if now_s - self._closing_since > LINGER_S:
                self.abort()
        elif self._full:
            if now_s - self._quiet_since > request_s:
                self.abort()
        elif self._receiving_since is not None:
            if now_s - self._receiving_since > request_s:
                self._refuse(Unreachable("http.timeout", "the request did not arrive in time", status=408))
        elif (
            not self._busy
            and not self._queue
            and now_s - self._quiet_since > self._server.limits.idle_timeout_ms / 1000
        ):
            self._close()
