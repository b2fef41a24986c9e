"""The host leads an enclave from before a full replacement of the validators over headers of its own store."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from chain_world import MEMBERS, NOW_MS, World
from onecode.enclave import serving
from onecode.enclave.frames import FrameKind, pack
from onecode.enclave.serving import reply, worker_handler
from onecode.errors import Untrusted
from onecode.node import enclave_port
from onecode.node.enclave_port import EnclavePort, HeaderAt, headers_between
from onecode.node.link import LinkLimits
from onecode.node.view import Head
from onecode.proof.map import Section
from onecode.query.messages import HeaderView
from onecode.wire import encode
from replaced_validators import strangers_view, view_between, world_after_replacement
from unit.node.test_link import Peer, run, until


def head_of(world: World) -> Head:
    update = world.header_update()
    return Head(
        height=world.height,
        signed=update.header,
        validator_set=update.validators,
        section_roots=update.roots,
        header=update.header.encoded(),
        validators=update.validators.encoded(),
        roots=update.roots.encoded(),
        platforms_root=update.roots.root(Section.PLATFORMS),
        platforms={given.platform: given.encoded() for given in update.platforms or ()},
        leaves={},
        policy=encode(update.policy),
        policy_proof=update.policy_proof.encoded(),
    )


def kept(world: World) -> HeaderAt:
    newest = HeaderView(header=world.header(), validators=MEMBERS)
    return lambda height: newest if height == world.height else view_between(height)


def test_an_enclave_that_cannot_follow_is_led(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (serving, enclave_port):
        monkeypatch.setattr(module, "now_ms", lambda: NOW_MS)
    world = world_after_replacement()
    enclave, kinds = world.enclave(), list[int]()
    handle = worker_handler(enclave, lambda told: None)

    def answer(request_id: int, kind: int, payload: bytes) -> bytes:
        kinds.append(kind)
        return pack(request_id, *reply(handle, kind, payload))

    async def main() -> None:
        peer = Peer(tmp_path / "s", answer)
        await peer.start()
        port = EnclavePort(peer.path, LinkLimits(10, 5_000), kept(world))
        port.link.start()
        await until(lambda: port.up)
        port.follow(head_of(world))
        await until(lambda: enclave.status().trusted_height == 8 and port.link.in_flight == 0)
        assert not port.knows(10)
        port._retry_at_s = 0
        port.follow(head_of(world))
        await until(lambda: port.knows(10))
        await port.link.stop()
        await peer.stop()

    run(main)
    assert enclave.status().height == 10
    assert kinds.count(FrameKind.HEADER) == 2 and 2 <= kinds.count(FrameKind.BETWEEN) <= 4


def test_where_headers_are_missing_the_log_says_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (serving, enclave_port):
        monkeypatch.setattr(module, "now_ms", lambda: NOW_MS)
    world = world_after_replacement()
    enclave = world.enclave()
    handle = worker_handler(enclave, lambda told: None)

    async def main() -> None:
        peer = Peer(tmp_path / "s", lambda number, kind, payload: pack(number, *reply(handle, kind, payload)))
        await peer.start()
        port = EnclavePort(peer.path, LinkLimits(10, 5_000), lambda height: None)
        port.link.start()
        await until(lambda: port.up)
        port.follow(head_of(world))
        await until(lambda: "header 2 is not kept here" in caplog.text)
        await port.link.stop()
        await peer.stop()

    with caplog.at_level(logging.WARNING):
        run(main)
    assert enclave.status().trusted_height == 2


def test_headers_of_strangers_lead_nowhere() -> None:
    world = world_after_replacement()
    honest = kept(world)
    with pytest.raises(Untrusted) as caught:
        headers_between(lambda height: strangers_view(height) if 2 < height < 10 else honest(height), 2, 10, NOW_MS)
    assert caught.value.code == "header.next_validators"
    assert [view.header.header.height for view in headers_between(honest, 7, 10, NOW_MS)] == []
