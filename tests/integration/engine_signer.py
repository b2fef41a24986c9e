"""A validator's signer outside its engine, whose votes carry another clock's time: how a validator with a wrong clock
looks to all others. Source: CometBFT v0.39 `proto/tendermint/privval/types.proto`, `types/canonical.go`.

An engine whose own clock is behind by more than `block_time_tolerance` (60 s) refuses every block besides; that cannot
be shown without changing the machine's clock.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from integration.engine_network import CHAIN_ID, Member
from onecode.node.abci_messages import Fields, read_fields, read_uvarint
from onecode.proof.protobuf import (
    NANOS_PER_SECOND,
    bytes_field,
    message_field,
    sfixed64_field,
    timestamp,
    uvarint,
    varint_field,
)

PUB_KEY, SIGN_VOTE, SIGN_PROPOSAL, PING = 1, 3, 5, 7


class Signer:
    """Signs for one member until `stop`; `ahead_ms` is added to the time of each of its votes."""

    def __init__(self, member: Member, ahead_ms: int) -> None:
        self.key, self.ahead_ns, self.votes = member.validator_key, ahead_ms * 1_000_000, 0
        self.path = member.directory / "signer"
        config = member.home / "config" / "config.toml"
        config.write_text(f'priv_validator_laddr = "unix://{self.path}"\n' + config.read_text("utf-8"), "utf-8")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stopping.wait(0.05):
            with socket.socket(socket.AF_UNIX) as engine, suppress(OSError):
                engine.settimeout(1)
                engine.connect(str(self.path))
                self._serve(engine)

    def _serve(self, engine: socket.socket) -> None:
        received = b""
        while not self._stopping.is_set():
            try:
                data = engine.recv(1 << 16)
            except TimeoutError:
                continue
            if not data:
                return
            received += data
            while (found := read_uvarint(received, 0)) is not None and len(received) >= sum(found):
                size, begin = found
                answer = self._answer(read_fields(received[begin : begin + size]))
                engine.sendall(uvarint(len(answer)) + answer)
                received = received[begin + size :]

    def _answer(self, request: Fields) -> bytes:
        number, values = next(iter(request.items()))
        given = read_fields(whole(values))
        if number == PUB_KEY:
            answer = message_field(1, bytes_field(1, self.key.public))
        elif number == SIGN_VOTE:
            answer = message_field(1, self._vote(read_fields(whole(given[1]))))
        elif number == SIGN_PROPOSAL:
            answer = message_field(1, self._proposal(read_fields(whole(given[1]))))
        else:
            answer = b""
        return message_field(number + 1, answer)

    def _vote(self, vote: Fields) -> bytes:
        self.votes += 1
        at = read_fields(whole(vote[5]))
        time_ns = uint(at, 1) * NANOS_PER_SECOND + uint(at, 2) + self.ahead_ns
        block = whole(vote.get(4, [b""]))
        canonical = [
            varint_field(1, uint(vote, 1)),
            sfixed64_field(2, uint(vote, 2)),
            sfixed64_field(3, uint(vote, 3)),
            message_field(4, block) if 1 in read_fields(block) else b"",
            message_field(5, timestamp(time_ns)),
            bytes_field(6, CHAIN_ID.encode()),
        ]
        plain = [
            varint_field(1, uint(vote, 1)),
            varint_field(2, uint(vote, 2)),
            varint_field(3, uint(vote, 3)),
            message_field(4, block),
            message_field(5, timestamp(time_ns)),
            bytes_field(6, whole(vote[6])),
            varint_field(7, uint(vote, 7)),
            bytes_field(8, self._sign(b"".join(canonical))),
        ]
        return b"".join(plain)

    def _proposal(self, proposal: Fields) -> bytes:
        block, at = message_field(5, whole(proposal[5])), message_field(6, whole(proposal[6]))
        number, turn, before = uint(proposal, 2), uint(proposal, 3), varint_field(4, uint(proposal, 4))
        kind = varint_field(1, uint(proposal, 1))
        canonical = kind + sfixed64_field(2, number) + sfixed64_field(3, turn) + before + block + at
        signature = self._sign(canonical + bytes_field(7, CHAIN_ID.encode()))
        return kind + varint_field(2, number) + varint_field(3, turn) + before + block + at + bytes_field(7, signature)

    def _sign(self, canonical: bytes) -> bytes:
        return self.key.sign_bytes(uvarint(len(canonical)) + canonical)


def whole(values: list[int | bytes]) -> bytes:
    value = values[-1]
    assert isinstance(value, bytes)
    return value


def uint(fields: Fields, number: int) -> int:
    value = fields.get(number, [0])[-1]
    assert isinstance(value, int)
    return value
