"""A worker's connection to the enclave, and what the enclave knows of the chain.

A query is asked only at a height that the enclave has confirmed. Several workers tell it of the same headers; one that
comes after a newer one is refused there, and its worker looks at the store again, which is then at least as new. So no
query is ever sent twice: the enclave would take the second one for a replay.

An enclave whose trusted header is of validators that have since been replaced cannot follow at once: it is led over
headers between, from this node's store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from onecode.enclave.frames import EnclaveStatus, FrameKind
from onecode.errors import OnecodeError, Unreachable
from onecode.host.clock import now_ms
from onecode.node.link import Done, Link, LinkLimits
from onecode.node.view import Head, header_update_bytes, platform_parts, platforms_part_bytes
from onecode.proof.light import Trust, trusted_state
from onecode.query.bridge import Bridge
from onecode.query.messages import HeaderView
from onecode.schema import parse

PLATFORMS_PART_BYTES = 768 << 10  # leaves room in a frame for the largest header
HEADER_RETRY_S = 1.0  # after the enclave refused a header, or did not say what it is

HeaderAt = Callable[[int], HeaderView | None]  # the header of a height, where this node has it

log = logging.getLogger(__name__)


def enclave_down() -> OnecodeError:
    return Unreachable(
        "node.enclave_down", "the node's enclave does not run: ask another node or again", retry_after_ms=1_000
    )


def _ignore(reply: bytes | OnecodeError) -> None:
    """What was refused ahead of a header shows when that is."""


def headers_between(header_at: HeaderAt, trusted_height: int, goal_height: int, at_ms: int) -> tuple[HeaderView, ...]:
    """Headers over which a light client gets from its trusted header to a newer one (`query/bridge.py`).

    Raises `Unreachable` where this node does not have what is needed, and `Untrusted` where its headers do not verify.
    """

    def found(height: int) -> HeaderView:
        view = header_at(height)
        if view is None:
            raise Unreachable(
                "node.headers_between",
                f"header {height} is not kept here, so the enclave cannot follow from the header that it trusts, of "
                f"height {trusted_height}: start it again with a newer trust file",
            )
        return view

    trusted = found(trusted_height)
    way = Bridge(Trust(trusted_state(trusted.header.header, trusted.validators)), found(goal_height), at_ms)
    while way.needed is not None:
        way.take(found(way.needed))
    return way.passed


def _behind() -> OnecodeError:
    return Unreachable(
        "node.enclave_behind", "the node's enclave does not follow the chain: ask another node", retry_after_ms=1_000
    )


class EnclavePort:
    """One connection to the enclave. `status` is what it said of itself when the connection was made."""

    def __init__(self, path: Path, limits: LinkLimits, header_at: HeaderAt) -> None:
        self.status: EnclaveStatus | None = None
        self.link = Link(path, limits, enclave_down, self._up)
        self._header_at = header_at
        self._loop = asyncio.get_running_loop()
        self._head: Head | None = None
        self._told_height = self._known_height = 0
        self._told_platforms_root = b""
        self._telling = 0  # headers without a reply
        self._waiting: list[Callable[[OnecodeError | None], None]] = []
        self._waiting_max = limits.in_flight_max
        self._retry_at_s = 0.0

    @property
    def up(self) -> bool:
        """Whether queries can be asked."""
        return self.link.up and self.status is not None

    def require_up(self) -> EnclaveStatus:
        """What the enclave said of itself; `Unreachable` while it is down."""
        if self.status is None or not self.link.up:
            raise enclave_down()
        return self.status

    def knows(self, height: int) -> bool:
        """Whether queries can be asked at this height."""
        return height == self._known_height

    def wait(self, done: Callable[[OnecodeError | None], None]) -> None:
        """Call `done` once the enclave has answered for the headers it was told of: then look at the store again."""
        if not self._telling:
            raise _behind()
        if len(self._waiting) >= self._waiting_max:
            raise Unreachable("node.busy", "the node has all it can do: ask again or another one", retry_after_ms=1_000)
        self._waiting.append(done)

    def follow(self, head: Head) -> None:
        """Tell the enclave of a newer header, once."""
        self._head = head
        if not self.up or head.height <= self._told_height or self._loop.time() < self._retry_at_s:
            return
        with_platforms = head.platforms_root != self._told_platforms_root
        try:
            *ahead, last = platform_parts(head, PLATFORMS_PART_BYTES) if with_platforms else [[]]
            for part in ahead:
                self.link.send(FrameKind.PLATFORMS, platforms_part_bytes(head, part), _ignore)
            update = header_update_bytes(head, with_platforms=with_platforms, part=last)
            self.link.send(FrameKind.HEADER, update, partial(self._told, head.height))
        except OnecodeError as error:
            log.warning("the enclave could not be told of height %d: %s", head.height, error)
            return
        self._telling += 1
        self._told_height, self._told_platforms_root = head.height, head.platforms_root

    def ask(self, query: bytes, done: Done) -> None:
        """Send an encoded `EnclaveQuery`; `done` gets the sealed result."""
        self.link.send(FrameKind.QUERY, query, done)

    async def fetch_status(self) -> EnclaveStatus:
        """What the enclave says of itself now."""
        return parse(EnclaveStatus, await self.link.call(FrameKind.STATUS, b""), path="enclave")

    def _up(self, _: Link) -> None:
        self.status = None
        self._told_height, self._known_height, self._told_platforms_root, self._retry_at_s = 0, 0, b"", 0.0
        self._greet()

    def _greet(self) -> None:
        if self.link.up and self.status is None:
            self.link.send(FrameKind.STATUS, b"", self._greeted)

    def _greeted(self, reply: bytes | OnecodeError) -> None:
        if isinstance(reply, OnecodeError):
            log.warning("the enclave did not say what it is: %s", reply)
            self._loop.call_later(HEADER_RETRY_S, self._greet)
            return
        self.status = parse(EnclaveStatus, reply, path="enclave")
        self._told_height = self._known_height = self.status.height
        self._told_platforms_root = self.status.platforms_root
        if self._head is not None:
            self.follow(self._head)

    def _told(self, height: int, reply: bytes | OnecodeError) -> None:
        self._telling -= 1
        error: OnecodeError | None = None
        if not isinstance(reply, OnecodeError):
            self._known_height = max(height, self._known_height)
        elif reply.code != "header.not_higher":  # that one means: another worker told it of a newer one
            log.warning("the enclave refused the header of height %d: %s", height, reply)
            self._told_height, self._told_platforms_root = 0, b""
            self._retry_at_s = self._loop.time() + HEADER_RETRY_S
            error = _behind() if self.up else enclave_down()
            if reply.code == "header.not_enough_trust":
                with suppress(Unreachable):  # it is refused again
                    self.link.send(FrameKind.STATUS, b"", self._lead)
        if self._telling:
            return
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(error)

    def _lead(self, reply: bytes | OnecodeError) -> None:
        """Send the headers between that the enclave needs before the newest one, which it is told of again later."""
        try:
            if isinstance(reply, OnecodeError):
                raise reply
            trusted_height = parse(EnclaveStatus, reply, path="enclave").trusted_height
            goal_height = self._head.height if self._head is not None else trusted_height
            for view in headers_between(self._header_at, trusted_height, goal_height, now_ms()):
                self.link.send(FrameKind.BETWEEN, view.encoded(), _ignore)
        except OnecodeError as error:
            log.warning("the enclave cannot be led to the newest header: %s", error)
