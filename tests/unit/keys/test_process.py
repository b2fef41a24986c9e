"""A key service from before a full replacement of the validators catches up with its own node, with nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from chain_world import CHAIN_ID, MEMBERS, NOW_MS
from onecode.attest.epochs import encode_epochs
from onecode.attest.release import ReleaseRequest
from onecode.errors import OnecodeError
from onecode.keys import process
from onecode.keys.config import KeysConfig
from onecode.keys.process import KeyServiceApp, tell_error
from onecode.proof.governance import ENCLAVE_POLICY_KEY
from onecode.proof.header import header_hash
from onecode.proof.light import Trust, trusted_state
from onecode.proof.map import Section
from onecode.query.bridge import HOPS_MAX
from onecode.query.follow import Follower
from onecode.query.messages import HeaderView, LeafView
from onecode.registry.map import prove, section_roots
from replaced_validators import strangers_view, view_between, world_after_replacement
from unit.wallet.test_headers import rotating

Between = Callable[[int], HeaderView]


class Stage:
    """A key service as a process has it, its own node, and an enclave at the newest header."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, between: Between = view_between) -> None:
        monkeypatch.setattr(process, "now_ms", lambda: NOW_MS)
        self.world = world_after_replacement()
        self.between = between
        self.asked: list[str] = []
        self.service = self.world.key_service(self.world.a)
        epochs = directory / "epochs.json"
        epochs.touch(0o600)
        epochs.write_bytes(encode_epochs(self.world.a.epoch_keys))
        names = ("platform", "trust_file", "pinned_root", "key_file")
        config = KeysConfig(
            chain_id=CHAIN_ID,
            node_url="http://node",
            epochs_file=str(epochs),
            measurements=(),
            **dict.fromkeys(names, ""),
        )
        self.app = KeyServiceApp(config, self.service)
        self.app._client = httpx.AsyncClient(base_url="http://node", transport=httpx.MockTransport(self.node))
        self.enclave = self.world.enclave()
        for height in (6, 7):
            self.enclave.accept_between(view_between(height), NOW_MS)
        self.update = self.world.header_update()
        self.enclave.accept_header(self.update, NOW_MS)
        self.newest = HeaderView(header=self.update.header, validators=MEMBERS)

    def node(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(path)
        if path.startswith("/v1/leaves/"):
            store, world = self.world.store, self.world
            view = LeafView(
                header=self.newest.header,
                validators=self.newest.validators,
                roots=section_roots(store),
                section=int(Section.GOVERNANCE),
                key=ENCLAVE_POLICY_KEY,
                leaf=world.policy.encoded(),
                proof=prove(store, Section.GOVERNANCE, ENCLAVE_POLICY_KEY),
            )
            return httpx.Response(200, content=view.encoded())
        if path.startswith("/v1/headers/"):
            return httpx.Response(200, content=self.between(int(path.rpartition("/")[2])).encoded())
        return httpx.Response(200, json={"code": 0, "name": "ok", "height": 11})

    def request(self) -> ReleaseRequest:
        return self.world.release_request(self.enclave, self.service, self.update)

    def release(self, *requests: ReleaseRequest) -> list[httpx.Response]:
        async def post() -> Sequence[httpx.Response]:
            starlette = Starlette(routes=self.app.routes(), exception_handlers={OnecodeError: tell_error})
            async with httpx.AsyncClient(base_url="http://keys", transport=httpx.ASGITransport(starlette)) as client:
                return await asyncio.gather(*(client.post("/v1/release", content=one.encoded()) for one in requests))

        return list(asyncio.run(post()))

    @property
    def headers_asked(self) -> int:
        return sum(path.startswith("/v1/headers/") for path in self.asked)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def code(response: httpx.Response) -> str:
    return str(response.json()["code"])


def test_keys_are_released_after_all_validators_were_replaced(stage: Stage) -> None:
    answers = stage.release(stage.request(), stage.request())  # the second waits for the first one's headers
    assert [answer.status_code for answer in answers] == [200, 200]
    assert 2 <= stage.headers_asked <= 4
    (again,) = stage.release(stage.request())
    assert again.status_code == 200
    assert stage.headers_asked <= 4  # it follows now


def test_false_headers_of_its_own_node_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def altered(height: int) -> HeaderView:
        view = view_between(height)
        header = dataclasses.replace(view.header.header, app_hash=bytes(32))
        return dataclasses.replace(view, header=dataclasses.replace(view.header, header=header))

    for between, expected in (
        (strangers_view, "header.next_validators"),
        (altered, "header.commit_block"),
        (lambda height: view_between(height - 1), "header.other_height"),
    ):
        stage = Stage(tmp_path, monkeypatch, between)
        (answer,) = stage.release(stage.request())
        assert (answer.status_code, code(answer)) == (401, expected)
        assert stage.service.follower.newest is None


def test_headers_between_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, monkeypatch, rotating)
    monkeypatch.setattr(process, "now_ms", lambda: NOW_MS + 200_000)
    first = rotating(1)
    service = stage.service
    service.follower = Follower(Trust(trusted_state(first.header.header, first.validators)))
    stage.newest = rotating(203)
    (answer,) = stage.release(stage.request())
    assert (answer.status_code, code(answer)) == (503, "header.too_far")
    assert stage.headers_asked == HOPS_MAX


def test_a_header_in_a_request_makes_nobody_fetch(stage: Stage) -> None:
    """Whoever asks can name any header; only the own node's newest one is worth headers between."""
    stage.release(stage.request())
    fetched = stage.headers_asked
    honest, false = stage.request(), strangers_view(50, NOW_MS - 1000)
    bindings = dataclasses.replace(honest.bindings, header_hash=header_hash(false.header.header))
    forged = dataclasses.replace(honest, bindings=bindings, header=false.header, validators=false.validators)
    (answer,) = stage.release(forged)
    assert (answer.status_code, code(answer)) == (401, "header.not_enough_trust")
    assert stage.headers_asked == fetched
