"""What a node's host can see: the bytes of its connections and the memory of its processes."""

from __future__ import annotations

import base64
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

CHUNK_BYTES = 16 << 20
PAGE_BYTES = 4096
Address = tuple[str, int] | str  # TCP, or the path of a Unix socket


class Tap:
    """Stands between the two ends of connections, hands everything on, and keeps every byte."""

    def __init__(self, listen: Address, target: Address) -> None:
        self._target = target
        self._family = socket.AF_UNIX if isinstance(listen, str) else socket.AF_INET
        self._listener = socket.socket(self._family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(listen)
        self._listener.listen(64)
        self.streams: list[bytearray] = []  # one for each direction of each connection
        self._run(self._accept)

    def _run(self, work: object, *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(self._family)
            try:
                far.connect(self._target)
            except OSError:  # whoever stands behind is not there yet
                near.close()
                continue
            if self._family == socket.AF_INET:
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._run(self._carry, near, far)
            self._run(self._carry, far, near)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        kept = bytearray()
        self.streams.append(kept)
        try:
            while data := source.recv(1 << 16):
                kept += data
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def recorded(self) -> bytes:
        """All that went by, one stream after another."""
        return b"\0\0\0\0".join(bytes(stream) for stream in self.streams)


def forms(marker: bytes) -> set[bytes]:
    """The marker as it may lie in memory or traffic: raw, in hex, and inside of longer base64 at each alignment."""
    found = {marker, marker.hex().encode(), marker.hex().upper().encode()}
    for before in range(3):
        text = base64.b64encode(bytes(before) + marker).rstrip(b"=")
        whole = text[-(-before * 8 // 6) : (before + len(marker)) * 8 // 6]  # what neighbours have no bits in
        found |= {whole, whole.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def found_in(chunks: Iterable[bytes], patterns: dict[str, set[bytes]]) -> set[str]:
    """The names of those markers that occur."""
    left, found = dict(patterns), set()
    for chunk in chunks:
        for name in [name for name, some in left.items() if any(form in chunk for form in some)]:
            found.add(name)
            del left[name]
    return found


def memory(pid: int) -> Iterator[bytes]:
    """All readable memory of a process, in overlapping pieces; but for what a map has beyond its file's end."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as mem:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, offset, _, inode, *name = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in span.split("-"))
            if "r" not in rights or (name and name[0] in ("[vvar]", "[vvar_vclock]", "[vsyscall]")):
                continue
            if inode != "0" and name and name[0].startswith("/") and os.path.exists(name[0]):
                end = min(end, start + max(0, os.stat(name[0]).st_size - int(offset, 16)))
                end += -end % PAGE_BYTES
            yield from _pieces(mem.fileno(), start, end)


def _pieces(mem: int, start: int, end: int, overlap: int = 256) -> Iterator[bytes]:
    tail = b""
    while start < end:
        try:
            data = os.pread(mem, min(CHUNK_BYTES, end - start), start)
        except OSError:  # a page that is not there (any more)
            data = b""
        if not data:
            start, tail = start + PAGE_BYTES, b""
            continue
        if data.count(0) != len(data):
            yield tail + data
        start, tail = start + len(data), data[-overlap:]
