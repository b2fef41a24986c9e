"""What an answer is compared with, each behind the node's own HTTP server and each one process on one port.

`memory`: the same number of bytes from memory: nothing that answers through this server is faster. `sqlite`,
`postgres`: a directory that a team would build instead, one indexed table, records in the clear, nothing proven, nobody
authenticated: it answers an encoded list of [platform, record].

Usage: python -m bench.servers KIND PORT [SOURCE]   (SOURCE: number of bytes, file, or socket)
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys

import uvloop

from bench.postgres import Client
from onecode.node.child import say_ready, stop_event
from onecode.node.http import HttpLimits, HttpServer
from onecode.node.routes import CBOR, Handler, Reply, Request, Response, Router
from onecode.wire import decode, encode

PATH = "/v1/query"


def memory(size: int) -> Handler:
    response = Response(200, b"x" * size, CBOR)

    def answer(request: Request, reply: Reply) -> None:
        reply(response)

    return answer


def sqlite(path: str) -> Handler:
    table = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False)
    table.execute("PRAGMA mmap_size = 17179869184")
    table.execute("PRAGMA cache_size = -262144")
    cursor = table.cursor()

    def answer(request: Request, reply: Reply) -> None:
        merchant, service = decode(request.body)
        cursor.execute("SELECT platform, record FROM records WHERE merchant = ? AND service = ?", (merchant, service))
        reply(Response(200, encode(cursor.fetchall()), CBOR))

    return answer


async def postgres(path: str) -> Handler:
    _, client = await asyncio.get_running_loop().create_unix_connection(Client, path)
    await client.ready.wait()

    def answer(request: Request, reply: Reply) -> None:
        merchant, service = decode(request.body)
        client.ask(merchant, service.encode(), lambda rows: reply(Response(200, encode(rows), CBOR)))

    return answer


async def serve(kind: str, port: int, source: str) -> None:
    stop = stop_event()
    handler = {"memory": lambda: memory(int(source)), "sqlite": lambda: sqlite(source)}.get(kind)
    router = Router()
    router.add("POST", PATH, handler() if handler else await postgres(source))
    server = HttpServer(router, HttpLimits(address_requests_per_s=0))
    await server.start("127.0.0.1", port)
    say_ready()
    await stop.wait()
    await server.stop(1_000)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
