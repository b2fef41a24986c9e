"""What the node asks its own engine, by CometBFT's RPC on loopback: signed headers with their validators, and to
take a transaction into its pool.

The answers are not verified here: the engine is the node's own, and a header that does not fit the state stops the
writer. Wallets verify what they get. Source: CometBFT v0.39 `rpc/openapi/openapi.yaml`.
"""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import dataclass
from typing import Any

from onecode.errors import Malformed, Misconfigured, Unreachable
from onecode.proof.comet_json import signed_header_from_rpc, validators_from_rpc
from onecode.proof.header import SignedHeader, ValidatorSet, validators_hash

ANSWER_BYTES_MAX = 8 << 20
VALIDATORS_A_PAGE = 100  # the engine gives no more
PAGES_MAX = 100
IN_CACHE = "tx already exists in cache"  # CometBFT's `ErrTxInCache`, told in an error's text alone


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """How the engine stands. first_block: the lowest height that it has; power: of its vote, 0 for none."""

    height: int
    first_block: int
    catching_up: bool
    power: int
    peers: int


class EngineRpc:
    """Not for several threads at once. The validators of the last header are kept: they seldom change."""

    def __init__(self, port: int, timeout_ms: int = 2_000, host: str = "127.0.0.1") -> None:
        """timeout_ms: for one request; the chain waits meanwhile, so it is short."""
        self._address = (host, port)
        self._timeout_s = timeout_ms / 1000
        self._connection: http.client.HTTPConnection | None = None
        self._validators: ValidatorSet | None = None
        self._validators_hash = b""

    def header(self, height: int) -> tuple[SignedHeader, ValidatorSet]:
        """The signed header of `height` and its validators.

        Raises `Unreachable` where the engine does not answer or has not got it; `Misconfigured` where the answer is
        none of CometBFT's.
        """
        try:
            answer = self._get("commit", height=str(height))
            signed = signed_header_from_rpc(_member(answer, "signed_header"))
            if signed.header.validators_hash != self._validators_hash or self._validators is None:
                self._validators = self._fetch_validators(height)
                self._validators_hash = validators_hash(self._validators)
        except Malformed as error:
            raise Misconfigured(
                "engine.answer", f"what answers at {self._place()} is no engine of this network: {error}"
            ) from error
        if signed.header.height != height or signed.header.validators_hash != self._validators_hash:
            raise Misconfigured("engine.header", f"the engine at {self._place()} gave another header than {height}")
        return signed, self._validators

    def submit(self, transaction: bytes) -> int | None:
        """Hand a transaction to the engine's pool: the code of CheckTx, 0 if it was taken; None if the pool has or had
        these very bytes. Raises `Unreachable` where that is not known, or the pool is full."""
        try:
            answer = self._get("broadcast_tx_sync", tx=base64.b64encode(transaction).decode("ascii"))
            code = _member(answer, "code")
        except Unreachable as error:
            if IN_CACHE in error.message:
                return None
            raise
        except Malformed as error:
            raise Misconfigured("engine.answer", f"what answers at {self._place()} is no engine: {error}") from error
        if type(code) is not int:
            raise Misconfigured("engine.answer", f"what answers at {self._place()} is no engine: no code")
        return code

    def status(self) -> EngineStatus:
        """How the engine stands. Raises `Unreachable`, and `Misconfigured` where the answer is none of CometBFT's."""
        answer, net = self._get("status"), self._get("net_info")
        try:
            chain = _member(answer, "sync_info")
            return EngineStatus(
                height=int(_member(chain, "latest_block_height")),
                first_block=int(_member(chain, "earliest_block_height")),
                catching_up=bool(_member(chain, "catching_up")),
                power=int(_member(_member(answer, "validator_info"), "voting_power")),
                peers=int(_member(net, "n_peers")),
            )
        except (Malformed, TypeError, ValueError) as error:
            raise Misconfigured("engine.answer", f"what answers at {self._place()} is no engine: {error}") from error

    def furthest_peer(self) -> int:
        """The greatest height that peers say they decide, of several the second: one alone may lie. 0 without peers.
        Raises as `status` does."""
        answer = self._get("dump_consensus_state")
        try:
            states = [_member(_member(peer, "peer_state"), "round_state") for peer in _member(answer, "peers") or ()]
            heights = sorted((int(_member(state, "height")) for state in states), reverse=True)
            return heights[min(1, len(heights) - 1)] if heights else 0
        except (Malformed, TypeError, ValueError) as error:
            raise Misconfigured("engine.answer", f"what answers at {self._place()} is no engine: {error}") from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _fetch_validators(self, height: int) -> ValidatorSet:
        found: list[Any] = []
        for page in range(1, PAGES_MAX + 1):
            answer = self._get("validators", height=str(height), per_page=str(VALIDATORS_A_PAGE), page=str(page))
            found += _member(answer, "validators")
            if len(found) >= int(_member(answer, "total")):
                break
        return validators_from_rpc(found)

    def _get(self, method: str, **parameters: str) -> Any:
        """`result` of an RPC method; asked a second time where a connection that was kept has been closed."""
        kept = self._connection is not None
        try:
            return self._ask(method, parameters)
        except (http.client.RemoteDisconnected, ConnectionError) as error:
            if not kept:
                raise self._unreachable(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        try:
            return self._ask(method, parameters)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def _ask(self, method: str, parameters: dict[str, str]) -> Any:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(*self._address, timeout=self._timeout_s)
        request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
        try:
            self._connection.request("POST", "/", request, {"content-type": "application/json"})
            body = self._connection.getresponse().read(ANSWER_BYTES_MAX + 1)
        except BaseException:
            self.close()
            raise
        try:
            if len(body) > ANSWER_BYTES_MAX:
                raise ValueError("too long")
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            self.close()
            raise Malformed("engine.json", f"the engine's answer is not JSON: {error}") from None
        if type(answer) is dict and "error" in answer:  # it has not got that height, or is starting
            raise Unreachable("engine.refused", f"the engine refused: {str(answer['error'])[:200]}")
        return _member(answer, "result")

    def _unreachable(self, error: Exception) -> Unreachable:
        self.close()
        return Unreachable("engine.unreachable", f"the engine at {self._place()} does not answer: {error!r}")

    def _place(self) -> str:
        return f"{self._address[0]} port {self._address[1]}"


def _member(value: Any, name: str) -> Any:
    if type(value) is not dict or name not in value:
        raise Malformed("engine.shape", f"the engine's answer has no {name}", field=name)
    return value[name]
