"""The key service as a process: HTTP in front of `KeyService`, its own node behind it."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import secrets
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onecode.attest.epochs import parse_epochs
from onecode.attest.policy import OperatorPins
from onecode.attest.release import ReleaseRequest
from onecode.attest.software import SoftwareVerifier
from onecode.errors import (
    Malformed,
    Misconfigured,
    OnecodeError,
    Unreachable,
    Untrusted,
    answer_error,
    json_object,
    printable,
)
from onecode.host.clock import now_ms
from onecode.keys.config import KeysConfig, load_config
from onecode.keys.service import KeyService, Limits
from onecode.proof.governance import ENCLAVE_POLICY_KEY
from onecode.proof.map import Section
from onecode.proof.trust import verify_trust_file
from onecode.query.bridge import Bridge
from onecode.query.follow import Follower
from onecode.query.messages import HeaderView, LeafView
from onecode.schema import parse
from onecode.wire import SigningKey

CBOR = "application/cbor"
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4


def read_secret(path: str) -> bytes:
    """A secret file's bytes; refused if others than its owner may read it."""
    try:
        if os.stat(path).st_mode & 0o077:
            raise Misconfigured("keys.file_mode", f"{path} is readable by others; chmod 600 it", field="key_file")
        return Path(path).read_bytes()
    except OSError as error:
        raise Misconfigured("keys.file", f"cannot read {path}: {error.strerror}", field="key_file") from error


def open_service(config: KeysConfig) -> KeyService:
    """A key service that trusts what its configuration pins."""
    root = bytes.fromhex(config.pinned_root)
    data = Path(config.trust_file).read_bytes()
    trust, _ = verify_trust_file(data, root, config.chain_id, now_ms(), allow_solo=config.allow_solo)
    return KeyService(
        config.chain_id,
        bytes.fromhex(config.platform),
        SigningKey.from_seed(bytes.fromhex(read_secret(config.key_file).decode("ascii").strip())),
        Follower(trust, config.header_age_ms_max),
        OperatorPins(frozenset(bytes.fromhex(m) for m in config.measurements), config.allow_simulated),
        [SoftwareVerifier(tuple(bytes.fromhex(vendor) for vendor in config.vendors))],
        Limits(
            config.lease_ms,
            config.lease_openings,
            config.header_age_ms_max,
            config.challenge_ms,
        ),
        secrets.token_bytes,
    )


class KeyServiceApp:
    """Routes of the key service's API under /v1."""

    def __init__(self, config: KeysConfig, service: KeyService) -> None:
        self._config = config
        self._service = service
        self._client = httpx.AsyncClient(base_url=config.node_url, timeout=config.node_timeout_ms / 1000)
        self._following = asyncio.Lock()
        self._released = 0

    async def _node(self, method: str, path: str, content: bytes | None = None) -> httpx.Response:
        try:
            headers = {"content-type": CBOR} if content is not None else {}
            response = await self._client.request(method, path, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise Unreachable("keys.node", f"its node does not answer: {type(error).__name__}") from error
        if response.status_code != 200:
            raise answer_error(response.status_code, response.content)
        return response

    async def _policy(self) -> bytes:
        """The enclave policy, proven under a fresh header of this service's own light client."""
        path = f"/v1/leaves/governance/{ENCLAVE_POLICY_KEY.hex()}"
        view = parse(LeafView, (await self._node("GET", path)).content, path="node")
        async with self._following:  # else another request could go on while headers between are fetched
            await self._bridge(HeaderView(header=view.header, validators=view.validators))
            leaf = self._service.follower.verify_leaf(view, Section.GOVERNANCE, ENCLAVE_POLICY_KEY, now_ms())
        if leaf is None:
            raise Misconfigured("keys.no_policy", "the chain has no enclave policy, so no enclave may have keys")
        return leaf

    async def _bridge(self, goal: HeaderView) -> None:
        """Verify headers between the newest one and `goal`, where too many validators have changed.

        Only on the way to what its own node shows: a header in a request makes nobody fetch anything.
        """
        follower, at_ms = self._service.follower, now_ms()
        try:
            follower.verify_next(goal.header, goal.validators, at_ms)
        except Untrusted as error:
            if error.code != "header.not_enough_trust":
                raise
            way = Bridge(follower.trust, goal, at_ms)
            while way.needed is not None:
                raw = (await self._node("GET", f"/v1/headers/{way.needed}")).content
                way.take(parse(HeaderView, raw, path="node"))
            for between in way.passed:
                follower.verify_between(between, at_ms)

    async def challenge(self, _: Request) -> Response:
        nonce, end = self._service.make_challenge(now_ms())
        return JSONResponse(
            {
                "nonce": nonce.hex(),
                "key": self._service.public_key.hex(),
                "platform": self._service.platform.hex(),
                "expires_ms": end,
            }
        )

    async def _read(self, request: Request) -> bytes:
        """The body, refused as soon as it is too large."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > self._config.body_bytes_max:
                raise Malformed("http.too_large", f"a body has at most {self._config.body_bytes_max} bytes", status=413)
        return body

    async def release(self, request: Request) -> Response:
        asked = parse(ReleaseRequest, await self._read(request), path="release")
        claims = self._service.appraise_request(asked, await self._policy(), now_ms())
        epochs = parse_epochs(read_secret(self._config.epochs_file))
        grant, transaction = self._service.make_grant(asked, claims, epochs, now_ms())
        logged = json_object((await self._node("POST", "/v1/transactions?wait=proven", transaction)).content)
        if logged is None or logged.get("code") != 0:
            name = printable(str(logged.get("name"))) if logged else "no JSON"
            raise Unreachable("keys.attest", f"the chain did not take the attestation: {name}")
        self._released += 1
        return Response(grant.encoded(), media_type=CBOR)

    async def status(self, _: Request) -> Response:
        newest = self._service.follower.newest
        return JSONResponse(
            {
                "platform": self._service.platform.hex(),
                "chain_id": self._config.chain_id,
                "height": newest.header.height if newest else 0,
                "released": self._released,
                "accepts_simulated_evidence": self._config.allow_simulated,
            }
        )

    def routes(self) -> list[Route]:
        return [
            Route("/v1/challenge", self.challenge, methods=["POST"]),
            Route("/v1/release", self.release, methods=["POST"]),
            Route("/v1/status", self.status, methods=["GET"]),
        ]


async def tell_error(_: Request, error: Exception) -> Response:
    """An `OnecodeError` as RFC 9457."""
    if not isinstance(error, OnecodeError):
        raise error
    return JSONResponse(error.problem(), error.status, media_type="application/problem+json")


def main(arguments: list[str]) -> int:
    """`python -m onecode.keys CONFIG`"""
    try:
        if len(arguments) != 1:
            raise Malformed("usage.arguments", "usage: python -m onecode.keys CONFIG.json")
        config = load_config(Path(arguments[0]))
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        app = KeyServiceApp(config, open_service(config))
        handlers: dict[Any, Any] = {OnecodeError: tell_error}
        starlette = Starlette(routes=app.routes(), exception_handlers=handlers)
        listener = socket.create_server((config.host, config.port))
        host, port = listener.getsockname()[:2]
        sys.stdout.write(json.dumps({"ready": True, "url": f"http://{host}:{port}", "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        server = uvicorn.Server(
            uvicorn.Config(starlette, log_level="error", access_log=False, timeout_graceful_shutdown=2)
        )
        server.run(sockets=[listener])
    except OnecodeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0
