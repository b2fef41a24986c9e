"""CometBFT's RPC JSON (`/commit`, `/validators`) to and from our messages.

Source: CometBFT v0.39 `rpc/openapi`: 64-bit integers are strings, hashes upper-case hex, keys and signatures base64,
times RFC 3339 with up to nine decimals. Limits are those of the messages, checked when they are built.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Any

from onecode.errors import Malformed
from onecode.proof.header import BlockId, SignedHeader, ValidatorSet, VoteFlag
from onecode.proof.protobuf import NANOS_PER_SECOND
from onecode.schema import from_plain

KEY_TYPE = "tendermint/PubKeyEd25519"
NO_TIME = "0001-01-01T00:00:00Z"
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HASHES = (
    "last_commit_hash",
    "data_hash",
    "validators_hash",
    "next_validators_hash",
    "consensus_hash",
    "app_hash",
    "last_results_hash",
    "evidence_hash",
    "proposer_address",
)


def _time_ns(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(text)
    *date, decimals = match.groups()
    since = datetime(*map(int, date), tzinfo=UTC) - _EPOCH  # type: ignore[misc,arg-type]
    return (since.days * 86_400 + since.seconds) * NANOS_PER_SECOND + int((decimals or "").ljust(9, "0"))


def _time_text(time_ns: int) -> str:
    seconds, nanos = divmod(time_ns, NANOS_PER_SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{nanos:09d}".rstrip("0") if nanos else "") + "Z"


def _base64_hex(text: str) -> str:
    return base64.b64decode(text, validate=True).hex()


def _block_id_plain(value: dict[str, Any]) -> dict[str, Any]:
    parts = value["parts"]
    return {"hash": value["hash"].lower(), "parts_total": int(parts["total"]), "parts_hash": parts["hash"].lower()}


def _vote_plain(value: dict[str, Any]) -> dict[str, Any]:
    flag = VoteFlag(value["block_id_flag"])
    plain: dict[str, Any] = {"flag": flag.name.lower()}
    if flag is not VoteFlag.ABSENT:
        plain["validator_address"] = value["validator_address"].lower()
        plain["timestamp_ns"] = _time_ns(value["timestamp"])
        plain["signature"] = _base64_hex(value["signature"])
    return plain


def signed_header_from_rpc(value: dict[str, Any]) -> SignedHeader:
    """The message for `result.signed_header` of `/commit`; raises `Malformed`. Does NOT verify anything."""
    try:
        header, commit = value["header"], value["commit"]
        plain = {
            "header": {
                "block_version": int(header["version"]["block"]),
                "app_version": int(header["version"].get("app", 0)),
                "chain_id": header["chain_id"],
                "height": int(header["height"]),
                "time_ns": _time_ns(header["time"]),
                "last_block_id": _block_id_plain(header["last_block_id"]),
                **{name: header[name].lower() for name in _HASHES},
            },
            "commit": {
                "height": int(commit["height"]),
                "round": int(commit["round"]),
                "block_id": _block_id_plain(commit["block_id"]),
                "votes": [_vote_plain(vote) for vote in commit["signatures"]],
            },
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Malformed("comet.signed_header", f"not a signed header of CometBFT's RPC: {error!r}") from None
    return from_plain(SignedHeader, plain)


def validators_from_rpc(value: list[dict[str, Any]]) -> ValidatorSet:
    """The message for `result.validators` of `/validators` (all pages, in order); raises `Malformed`."""
    plain = []
    try:
        for validator in value:
            if validator["pub_key"]["type"] != KEY_TYPE:
                raise Malformed("comet.key_type", "validators of this network have Ed25519 keys", field="pub_key.type")
            key = _base64_hex(validator["pub_key"]["value"])
            plain.append({"public_key": key, "power": int(validator["voting_power"])})
    except (KeyError, TypeError, ValueError) as error:
        raise Malformed("comet.validators", f"not validators of CometBFT's RPC: {error!r}") from None
    return from_plain(ValidatorSet, {"validators": plain})


def _block_id_rpc(block: BlockId) -> dict[str, Any]:
    parts = {"total": block.parts_total, "hash": block.parts_hash.hex().upper()}
    return {"hash": block.hash.hex().upper(), "parts": parts}


def signed_header_to_rpc(signed: SignedHeader) -> dict[str, Any]:
    """The inverse of `signed_header_from_rpc`, as CometBFT writes it."""
    header, commit = signed.header, signed.commit
    return {
        "header": {
            "version": {"block": str(header.block_version), "app": str(header.app_version)},
            "chain_id": header.chain_id,
            "height": str(header.height),
            "time": _time_text(header.time_ns),
            "last_block_id": _block_id_rpc(header.last_block_id),
            **{name: getattr(header, name).hex().upper() for name in _HASHES},
        },
        "commit": {
            "height": str(commit.height),
            "round": commit.round,
            "block_id": _block_id_rpc(commit.block_id),
            "signatures": [
                {
                    "block_id_flag": int(vote.flag),
                    "validator_address": (vote.validator_address or b"").hex().upper(),
                    "timestamp": NO_TIME if vote.timestamp_ns is None else _time_text(vote.timestamp_ns),
                    "signature": base64.b64encode(vote.signature).decode() if vote.signature else None,
                }
                for vote in commit.votes
            ],
        },
    }


def validators_to_rpc(validators: ValidatorSet) -> list[dict[str, Any]]:
    """The inverse of `validators_from_rpc`."""
    return [
        {
            "address": validator.address.hex().upper(),
            "pub_key": {"type": KEY_TYPE, "value": base64.b64encode(validator.public_key).decode()},
            "voting_power": str(validator.power),
        }
        for validator in validators.validators
    ]
