"""How long a function takes, and one exchange through the node's HTTP server without a socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import cycle
from typing import Any

from onecode.node.http import Connection, HttpLimits, HttpServer
from onecode.node.routes import CBOR, Reply, Request, Response, Router

ROUNDS = 10
ROUND_S = 0.015


def per_call_us(act: Callable[[Any], object], cases: Iterable[Any]) -> float:
    """Microseconds of processor time that `act` takes of one of the cases: the least disturbed of some rounds."""
    turn = cycle(cases)
    rounds = []
    for _ in range(ROUNDS):
        done, start = 0, time.thread_time()
        while (spent := time.thread_time() - start) < ROUND_S:
            for _ in range(20):
                act(next(turn))
            done += 20
        rounds.append(1e6 * spent / done)
    return min(rounds)


class _Sink:
    """Stands where a connection's transport would be."""

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return ("127.0.0.1", 1)

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        pass


def http_exchange(size: int) -> Callable[[bytes], None]:
    """A function that puts one whole request through the node's HTTP server, answered at once with `size` bytes."""
    loop = asyncio.new_event_loop()
    response = Response(200, b"x" * size, CBOR)

    def answer(request: Request, reply: Reply) -> None:
        reply(response)

    async def connect() -> Connection:
        router = Router()
        router.add("POST", "/v1/query", answer)
        connection = Connection(HttpServer(router, HttpLimits(address_requests_per_s=0)))
        connection.connection_made(_Sink())  # type: ignore[arg-type]
        return connection

    connection = loop.run_until_complete(connect())
    return connection.data_received
