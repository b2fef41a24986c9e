"""The enclave's sockets while nothing happens."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path
from typing import Any

import pytest
import uvloop

from onecode.enclave.process import listen
from onecode.enclave.serving import serve_parent, serve_worker

NOBODY: Any = None  # no frame is sent, so no enclave is asked


@pytest.mark.parametrize("role", ["parent", "worker"])
def test_the_socket_outlives_a_garbage_collection(role: str, tmp_path: Path) -> None:
    path = tmp_path / "s"
    ends = [*socket.socketpair(), *socket.socketpair()]
    for end in ends:
        end.setblocking(False)

    async def serve() -> None:
        listener = listen(path)
        work = (
            serve_parent(NOBODY, listener, [], [ends[0]])
            if role == "parent"
            else serve_worker(NOBODY, listener, ends[0], ends[2])
        )
        task = asyncio.get_running_loop().create_task(work)
        del listener, work
        await asyncio.sleep(0.05)
        assert not task.done()
        gc.collect()
        _, writer = await asyncio.open_unix_connection(str(path))
        writer.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    uvloop.run(serve())
