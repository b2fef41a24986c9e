"""The query and its answer: messages. How they are sealed is in `query/sealing.py`, how checked in `query/verify.py`.

A query has a part in the clear, which the node needs to look the merchant up, and a sealed part that only the enclave
reads. An answer is public proof plus a sealed result.
"""

from __future__ import annotations

from enum import IntEnum

from onecode.proof.header import SignedHeader, ValidatorSet
from onecode.proof.leaves import ALIASES_MAX, HASH, ID, KEY, LINKS_MAX, SERVICE, TIME_MS
from onecode.proof.map import PathProof, SectionRoots
from onecode.proof.transaction import ITEM_CODES, RESULT_CODE, TransactionProof
from onecode.schema import Bytes, Choice, ListOf, Message, Nested, Text, Uint, item

PROTOCOL = 1
QUERY_BYTES_MAX = 8192
ACCEPTED_MAX = 16
CREDENTIAL_BYTES_MAX = 512
CREDENTIAL_MS_MAX = 24 * 3600 * 1000
QUERY_WINDOW_MS = 60_000
SUITE_X25519 = 1  # DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; other numbers are for a hybrid later


class MatchMode(IntEnum):
    NODE = 1  # only the target's record leaves the enclave
    WALLET = 2  # every record that this wallet accepts and may read


class Alias(Message):
    """A foreign template's GUID with the values of the sub-objects that `scheme.assign` names."""

    guid: str = item(1, Text(32))
    values: tuple[str, ...] = item(2, ListOf(Text(99), 8, min=1))


class ClearQuery(Message):
    """What the node's host sees. Exactly one of `merchant` and `aliases` is given."""

    protocol: int = item(1, Uint(255))
    chain_id: str = item(2, Text(50))
    merchant: bytes | None = item(3, ID, default=None)
    aliases: tuple[Alias, ...] | None = item(4, ListOf(Nested(Alias), ALIASES_MAX, min=1), default=None)
    service: str = item(5, SERVICE)
    query_key: bytes = item(6, KEY)  # of the enclave it is sealed to
    have_height: int | None = item(7, Uint(), default=None)  # newest header that the wallet has verified
    have_platforms_root: bytes | None = item(8, HASH, default=None)  # under which it knows the platforms


class Credential(Message):
    """A platform's word that a device is a wallet of it, for at most 24 h."""

    platform: bytes = item(1, ID)
    device: bytes = item(2, KEY)  # Ed25519 public key of the device
    account: bytes = item(3, Bytes(1, 32))  # the platform's opaque name for the payer's account
    valid_from_ms: int = item(4, TIME_MS)
    valid_until_ms: int = item(5, TIME_MS)


class SignedCredential(Message):
    body: bytes = item(1, Bytes(1, 256))
    key: bytes = item(2, KEY)  # the platform's device key
    signature: bytes = item(3, Bytes(64))


class SecretQuery(Message):
    """What only the enclave reads."""

    query_id: bytes = item(1, Bytes(16))
    credential: bytes = item(2, Bytes(1, CREDENTIAL_BYTES_MAX))  # encoded SignedCredential
    accepted: tuple[bytes, ...] = item(3, ListOf(ID, ACCEPTED_MAX, min=1))  # platforms in order of preference
    mode: MatchMode = item(4, Choice(MatchMode))
    time_ms: int = item(5, TIME_MS)
    reply_key: bytes = item(6, Bytes(32))
    session: bytes | None = item(7, Bytes(1, 64), default=None)  # reserved: a session is refused for now


class SignedSecret(Message):
    body: bytes = item(1, Bytes(1, 1024))  # encoded SecretQuery
    signature: bytes = item(2, Bytes(64))  # device; over the clear part's hash, the query key and the body


class Query(Message):
    clear: bytes = item(1, Bytes(1, 4096))  # encoded ClearQuery
    suite: int = item(2, Uint(255))
    sealed: bytes = item(3, Bytes(1, 2048))


class ProvenPlatform(Message):
    """A platform leaf with its proof in the section `platforms`."""

    platform: bytes = item(1, ID)
    leaf: bytes = item(2, Bytes(1, 16_384))
    proof: PathProof = item(3, Nested(PathProof))


class ProvenAlias(Message):
    """Presence (`leaf` given) or absence of one alias, in the order of the query."""

    leaf: bytes | None = item(1, Bytes(1, 256), default=None)
    proof: PathProof = item(2, Nested(PathProof))


class ProvenMerchant(Message):
    """Presence (`entry` given, and `links` if it has the service) or absence of a merchant."""

    merchant: bytes = item(1, ID)
    entry: bytes | None = item(2, Bytes(1, 16_384), default=None)
    proof: PathProof = item(3, Nested(PathProof))
    links: bytes | None = item(4, Bytes(1, 32_768), default=None)  # encoded LinkList


class Answer(Message):
    """Proof of what the chain says at `height`, and the sealed result.

    `header` and `validators` are there unless the wallet has that height; `platforms` unless it knows that root.
    `merchant` is missing when no alias of the query is bound.
    """

    height: int = item(1, Uint())
    header: SignedHeader | None = item(2, Nested(SignedHeader), default=None)
    validators: ValidatorSet | None = item(3, Nested(ValidatorSet), default=None)
    roots: SectionRoots = item(4, Nested(SectionRoots))
    aliases: tuple[ProvenAlias, ...] | None = item(5, ListOf(Nested(ProvenAlias), ALIASES_MAX), default=None)
    merchant: ProvenMerchant | None = item(6, Nested(ProvenMerchant), default=None)
    platforms: tuple[ProvenPlatform, ...] | None = item(7, ListOf(Nested(ProvenPlatform), LINKS_MAX), default=None)
    sealed: bytes = item(8, Bytes(1, 1 << 19))


class Opened(Message):
    platform: bytes = item(1, ID)
    signed_record: bytes = item(2, Bytes(1, 8192))  # encoded SignedRecord


class Result(Message):
    """What the enclave seals for the wallet: opened records, or why it refused (`code` of the error tree)."""

    query_id: bytes = item(1, Bytes(16))
    opened: tuple[Opened, ...] = item(2, ListOf(Nested(Opened), LINKS_MAX))
    refusal: str | None = item(3, Text(64), default=None)
    branch: str | None = item(4, Text(16), default=None)
    detail: str | None = item(5, Text(200), default=None)
    retry_after_ms: int | None = item(6, Uint(1 << 32), default=None)


class ProvenEnclave(Message):
    """What `platform`'s key service says on chain of the enclave with this query key."""

    query_key: bytes = item(1, KEY)
    platform: bytes = item(2, ID)
    leaf: bytes = item(3, Bytes(1, 512))  # encoded EnclaveLeaf
    proof: PathProof = item(4, Nested(PathProof))


class NetworkView(Message):
    """What a wallet fetches before it asks: the newest header, the node's enclave as each platform attested it, the
    platforms, and the policy that says which builds may be asked."""

    header: SignedHeader = item(1, Nested(SignedHeader))
    validators: ValidatorSet = item(2, Nested(ValidatorSet))
    roots: SectionRoots = item(3, Nested(SectionRoots))
    enclaves: tuple[ProvenEnclave, ...] = item(4, ListOf(Nested(ProvenEnclave), 1000))
    platforms: tuple[ProvenPlatform, ...] = item(5, ListOf(Nested(ProvenPlatform), 1000))
    policy: bytes = item(6, Bytes(0, 16_384))  # encoded EnclavePolicy; empty if the chain has none
    policy_proof: PathProof = item(7, Nested(PathProof))


class HeaderView(Message):
    """One signed header with the validators of its height."""

    header: SignedHeader = item(1, Nested(SignedHeader))
    validators: ValidatorSet = item(2, Nested(ValidatorSet))


class LeafView(Message):
    """One leaf of the map, present or (without `leaf`) absent, proven under the newest header."""

    header: SignedHeader = item(1, Nested(SignedHeader))
    validators: ValidatorSet = item(2, Nested(ValidatorSet))
    roots: SectionRoots = item(3, Nested(SectionRoots))
    section: int = item(4, Uint(6))
    key: bytes = item(5, Bytes(0, 1024))
    leaf: bytes | None = item(6, Bytes(1, 1 << 18), default=None)
    proof: PathProof = item(7, Nested(PathProof))


class MemberView(Message):
    """What a member reads of one merchant and service: everything public, and the envelopes in order of the links."""

    header: SignedHeader = item(1, Nested(SignedHeader))
    validators: ValidatorSet = item(2, Nested(ValidatorSet))
    roots: SectionRoots = item(3, Nested(SectionRoots))
    merchant: ProvenMerchant = item(4, Nested(ProvenMerchant))
    platforms: tuple[ProvenPlatform, ...] = item(5, ListOf(Nested(ProvenPlatform), 1000))
    envelopes: tuple[bytes, ...] = item(6, ListOf(Bytes(1, 8192), LINKS_MAX))


class TransactionStatus(IntEnum):
    UNKNOWN = 0  # never seen here, still waiting, or in a block that is no longer kept
    DECIDED = 1  # in a block: it is durable
    PROVEN = 2  # and the next header, which proves it, is there


class TransactionView(Message):
    """What a node knows of a transaction; `proof` once it is proven."""

    hash: bytes = item(1, HASH)  # SHA-256 of the transaction's bytes
    status: TransactionStatus = item(2, Choice(TransactionStatus))
    height: int | None = item(3, Uint(), default=None)
    code: int | None = item(4, RESULT_CODE, default=None)
    item_codes: tuple[int, ...] = item(5, ITEM_CODES)
    proof: TransactionProof | None = item(6, Nested(TransactionProof), default=None)


BLOCK_BYTES_MAX = 64 << 20
BLOCK_TRANSACTIONS_MAX = 1 << 20


class BlockResult(Message):
    """What became of a transaction: code and item codes are consensus, events (a JSON array, or nothing) are not."""

    code: int = item(1, RESULT_CODE)
    item_codes: tuple[int, ...] = item(2, ITEM_CODES)
    events: bytes = item(3, Bytes(0, BLOCK_BYTES_MAX))


class BlockView(Message):
    """A block as members read it. Its transactions and results are those of the header's `data_hash` and of the next
    header's `last_results_hash`; parse it with `BLOCK_BYTES_MAX`."""

    header: SignedHeader = item(1, Nested(SignedHeader))
    validators: ValidatorSet = item(2, Nested(ValidatorSet))
    transactions: tuple[bytes, ...] = item(3, ListOf(Bytes(0, BLOCK_BYTES_MAX), BLOCK_TRANSACTIONS_MAX))
    results: tuple[BlockResult, ...] = item(4, ListOf(Nested(BlockResult), BLOCK_TRANSACTIONS_MAX))
