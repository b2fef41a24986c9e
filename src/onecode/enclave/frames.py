"""Frames between a node's host and its enclave, over a Unix socket: length, request id, kind, CBOR.

Layout: 4 bytes length of what follows the id (big-endian, at most 1 MiB), 4 bytes request id, 1 byte kind, payload.
A reply has the request's id and kind OK with the payload, or ERROR with a `Refusal`.
"""

from __future__ import annotations

from enum import IntEnum

from onecode.attest.evidence import Bindings, Evidence
from onecode.attest.release import EnclaveTerms, Grant
from onecode.errors import Malformed
from onecode.proof.header import Header, SignedHeader, ValidatorSet
from onecode.proof.leaves import HASH, ID, KEY, LINKS_MAX, TIME_MS
from onecode.proof.map import PathProof, SectionRoots
from onecode.query.messages import ProvenAlias, ProvenMerchant, ProvenPlatform
from onecode.schema import Bool, Bytes, ListOf, Message, Nested, Text, Uint, item
from onecode.wire import FRAME_BYTES_MAX

HEAD_BYTES = 9


class FrameKind(IntEnum):
    OK = 0
    ERROR = 1
    STATUS = 2  # empty -> EnclaveStatus
    HEADER = 3  # HeaderUpdate -> empty
    EVIDENCE = 4  # EvidenceRequest -> EvidenceReply
    GRANT = 5  # SealedGrant -> empty
    QUERY = 6  # EnclaveQuery -> sealed result
    PLATFORMS = 8  # PlatformsPart -> empty
    BETWEEN = 9  # HeaderView -> empty
    HOLD = 7  # inside the enclave only, parent to worker: HeldGrant -> empty


class Refusal(Message):
    """An error that the host may see: before a reply key was opened, or about what the host itself sent."""

    branch: str = item(1, Text(16))
    code: str = item(2, Text(64))
    detail: str = item(3, Text(300))


class Lease(Message):
    platform: bytes = item(1, ID)
    expires_ms: int = item(2, TIME_MS)
    renew: bool = item(3, Bool())  # few openings are left; how many, the host must not know


class EnclaveStatus(Message):
    query_key: bytes = item(1, KEY)
    kind: str = item(2, Text(16))
    measurement: bytes = item(3, Bytes(32, 64))
    node_id: str = item(4, Text(64))
    height: int = item(5, Uint())  # newest header verified; 0 before the first
    platforms_root: bytes = item(6, Bytes(0, 32))  # under which it knows the platforms
    leases: tuple[Lease, ...] = item(7, ListOf(Nested(Lease), 1000))
    trusted_height: int = item(8, Uint())  # of the header from which the next one is verified


class HeaderUpdate(Message):
    """A newer header with all the enclave needs to believe it. `platforms`: if the root changed, all of them but for
    those that came ahead in a `PlatformsPart`."""

    header: SignedHeader = item(1, Nested(SignedHeader))
    validators: ValidatorSet = item(2, Nested(ValidatorSet))
    roots: SectionRoots = item(3, Nested(SectionRoots))
    platforms: tuple[ProvenPlatform, ...] | None = item(4, ListOf(Nested(ProvenPlatform), 1000), default=None)
    policy: bytes = item(5, Bytes(0, 16_384))  # encoded EnclavePolicy, with its proof
    policy_proof: PathProof = item(6, Nested(PathProof))


class PlatformsPart(Message):
    """Some of the platforms under a root, ahead of the `HeaderUpdate` that holds the rest: a frame does not hold all
    platforms of a large network. Nothing of it is believed before that header."""

    root: bytes = item(1, HASH)  # of the section `platforms`
    platforms: tuple[ProvenPlatform, ...] = item(2, ListOf(Nested(ProvenPlatform), 1000))


class EvidenceRequest(Message):
    platform: bytes = item(1, ID)
    nonce: bytes = item(2, Bytes(32))
    key_service_key: bytes = item(3, KEY)


class EvidenceReply(Message):
    bindings: Bindings = item(1, Nested(Bindings))
    evidence: Evidence = item(2, Nested(Evidence))
    height: int = item(3, Uint())  # of the bound header
    terms: EnclaveTerms = item(4, Nested(EnclaveTerms))


class HeldGrant(Message):
    """A grant that the parent accepted, for its workers. Never crosses the enclave's boundary."""

    grant: Grant = item(1, Nested(Grant))
    header: Header = item(2, Nested(Header))  # that the evidence bound, so that the key service vouches for it
    validators: ValidatorSet = item(3, Nested(ValidatorSet))


class EnclaveQuery(Message):
    """A query with what the chain says at `height`. `envelopes` in the order of the links list."""

    query: bytes = item(1, Bytes(1, 8192))
    height: int = item(2, Uint())
    aliases: tuple[ProvenAlias, ...] | None = item(3, ListOf(Nested(ProvenAlias), 16), default=None)
    merchant: ProvenMerchant | None = item(4, Nested(ProvenMerchant), default=None)
    envelopes: tuple[bytes, ...] = item(5, ListOf(Bytes(1, 8192), LINKS_MAX))


def pack(request_id: int, kind: int, payload: bytes) -> bytes:
    """One frame."""
    if len(payload) + 1 > FRAME_BYTES_MAX:
        raise Malformed("frame.too_large", f"a frame holds at most {FRAME_BYTES_MAX} bytes", status=413)
    return (len(payload) + 1).to_bytes(4, "big") + request_id.to_bytes(4, "big") + bytes((kind,)) + payload


def unpack(buffer: bytes) -> tuple[list[tuple[int, int, bytes]], bytes]:
    """The whole frames in `buffer` as (request id, kind, payload), and the bytes that are left."""
    frames: list[tuple[int, int, bytes]] = []
    at, end = 0, len(buffer)
    while end - at >= HEAD_BYTES:
        length = int.from_bytes(buffer[at : at + 4], "big")
        if not 1 <= length <= FRAME_BYTES_MAX:
            raise Malformed("frame.length", f"a frame has 1 to {FRAME_BYTES_MAX} bytes", status=413)
        if end - at - 8 < length:
            break
        request_id = int.from_bytes(buffer[at + 4 : at + 8], "big")
        frames.append((request_id, buffer[at + 8], buffer[at + HEAD_BYTES : at + 8 + length]))
        at += 8 + length
    return frames, buffer[at:]
