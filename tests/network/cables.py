"""Network namespaces: each node in one of its own, on one bridge, and any two of them cut apart and joined again.

The test's own process, the platforms and the wallets stay outside and reach every node. A cut drops all packets both
ways between two nodes, as a broken cable does: no connection is reset. Needs root and `ip`.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
NETNS = Path("/run/netns")


def why_not() -> str | None:
    """Why namespaces cannot be used here; None where they can."""
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("ip") is None:
        return "no `ip` (iproute2)"
    probe = f"oc-probe-{secrets.token_hex(3)}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"`ip netns add` fails: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", probe], check=False)
    return None


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Cables:
    """A bridge with a namespace for each name. Use it as a context manager: leaving it removes all of it."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._tag = secrets.token_hex(2)
        self._net = f"10.{77 + secrets.randbelow(100)}.{secrets.randbelow(250)}"
        self._names = names
        self._cut: set[frozenset[str]] = set()

    @property
    def outside(self) -> str:
        """The address of the test's side."""
        return f"{self._net}.254"

    def address(self, name: str) -> str:
        return f"{self._net}.{self._names.index(name) + 1}"

    def _space(self, name: str) -> str:
        return f"oc{self._tag}-{name}"

    @property
    def _bridge(self) -> str:
        return f"oc{self._tag}br"

    def __enter__(self) -> Cables:
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("addr", "add", f"{self.outside}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for number, name in enumerate(self._names):
                space, cable = self._space(name), f"oc{self._tag}v{number}"
                _ip("netns", "add", space)
                _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
                _ip("link", "set", cable, "master", self._bridge, "up")
                _ip("-n", space, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
                _ip("-n", space, "link", "set", "eth0", "up")
                _ip("-n", space, "link", "set", "lo", "up")
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        for number, name in enumerate(self._names):
            subprocess.run(["ip", "link", "del", f"oc{self._tag}v{number}"], capture_output=True, check=False)
            subprocess.run(["ip", "netns", "del", self._space(name)], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True, check=False)

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Processes that this thread starts meanwhile live in the namespace of `name`."""
        libc = ctypes.CDLL(None, use_errno=True)
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        space = os.open(NETNS / self._space(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(space, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            yield
        finally:
            if libc.setns(home, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            os.close(space)
            os.close(home)

    def cut(self, one: str, other: str) -> None:
        """Drop everything between the two."""
        if frozenset((one, other)) not in self._cut:
            self._cut.add(frozenset((one, other)))
            _ip("-n", self._space(one), "route", "add", "blackhole", f"{self.address(other)}/32")
            _ip("-n", self._space(other), "route", "add", "blackhole", f"{self.address(one)}/32")

    def part(self, *groups: tuple[str, ...]) -> None:
        """Cut every two that are in different groups."""
        for number, group in enumerate(groups):
            for one in group:
                for other in (name for later in groups[number + 1 :] for name in later):
                    self.cut(one, other)

    def join(self) -> None:
        """Mend every cut."""
        for one, other in map(sorted, self._cut):
            _ip("-n", self._space(one), "route", "del", "blackhole", f"{self.address(other)}/32")
            _ip("-n", self._space(other), "route", "del", "blackhole", f"{self.address(one)}/32")
        self._cut.clear()
