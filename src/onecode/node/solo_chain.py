"""The chain of one validator: headers and commits in CometBFT's own format, so that wallets verify them as any other.

A header's commit is one vote. A block id has a part set of total 1 whose hash is the header's, since nothing is sent in
parts. A block with transactions and its proof block, the empty one whose header carries the new app hash, are written
in one transaction of the store. Formats: CometBFT v0.39 `types/block.go`, `types/results.go`, `types/params.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from onecode.errors import Misconfigured
from onecode.node.blocks import StoredHeader
from onecode.node.writer import BlockWriter
from onecode.proof.header import (
    BlockId,
    Commit,
    CommitVote,
    Header,
    SignedHeader,
    Validator,
    ValidatorSet,
    VoteFlag,
    header_hash,
    merkle_root,
    validators_hash,
    vote_sign_bytes,
)
from onecode.proof.protobuf import bytes_field, message_field, timestamp, varint_field
from onecode.proof.transaction import result_bytes
from onecode.registry.application import BlockOutcome, TransactionResult
from onecode.wire import SigningKey, sha256

CHAIN_ID_PREFIX = "solo-"
BLOCK_VERSION = 11
APP_VERSION = 1
VALIDATOR_POWER = 10
NANOS_PER_MS = 1_000_000
_NO_GAS_LIMIT = (1 << 64) - 1  # -1 as protobuf writes an int64
NO_BLOCK = BlockId(hash=b"", parts_total=0, parts_hash=b"")


@dataclass(frozen=True, slots=True)
class Produced:
    """A block that is durable together with the header that proves it."""

    height: int
    time_ms: int
    transactions: tuple[bytes, ...]
    results: tuple[TransactionResult, ...]


class SoloChain:
    """Makes, signs and stores blocks. All calls on the thread of the store's write transaction.

    Between calls the newest header stands for an empty block that is not executed yet; the next call does that first.
    """

    def __init__(
        self, writer: BlockWriter, key: SigningKey, chain_id: str, clock_ms: Callable[[], int], block_bytes_max: int
    ) -> None:
        """`clock_ms` gives milliseconds since the epoch. Header times increase strictly even where it does not: by a
        nanosecond, so that many blocks a millisecond never carry the chain's time ahead of the clock."""
        if not chain_id.startswith(CHAIN_ID_PREFIX):
            raise Misconfigured(
                "solo.chain_id", f"the chain id of a network with one validator begins with {CHAIN_ID_PREFIX}"
            )
        self._writer = writer
        self._key = key
        self._chain_id = chain_id
        self._clock_ms = clock_ms
        self._block_bytes_max = block_bytes_max
        self._validators = ValidatorSet(validators=(Validator(public_key=key.public, power=VALIDATOR_POWER),))
        self._validators_hash = validators_hash(self._validators)
        self._newest: SignedHeader | None = None
        self._results: Sequence[TransactionResult] = ()  # of the newest executed block

    @property
    def newest(self) -> SignedHeader:
        """The newest signed header."""
        if self._newest is None:
            raise Misconfigured("solo.closed", "the chain has to be started or resumed first")
        return self._newest

    def start(self, genesis: Any) -> None:
        """Begin a chain: the genesis state, block 1 (empty) and the header of block 2 that proves it."""
        app_hash = self._writer.init_chain(genesis)
        self._decide(app_hash, (), self._clock_ms() * NANOS_PER_MS, commit=False)
        self.heartbeat()

    def resume(self, newest: StoredHeader) -> None:
        """Go on from the newest header of the store, which proves its state."""
        header = newest.signed.header
        if header.chain_id != self._chain_id:
            raise Misconfigured("solo.chain_other", f"the store holds the chain {header.chain_id}")
        if header.validators_hash != self._validators_hash:
            raise Misconfigured("solo.key_other", "the validator key is not the one of the chain in the store")
        if header.height != self._writer.info().height + 1 or header.data_hash != data_hash(()):
            raise Misconfigured("solo.store", "the store was not written by a network of one validator")
        self._newest = newest.signed

    def heartbeat(self) -> None:
        """An empty block, so that the newest header is never much older than the clock."""
        app_hash = self._execute_newest()
        self._decide(app_hash, (), self._next_time_ns(), commit=True)

    def produce(self, candidates: Sequence[bytes]) -> Produced | None:
        """One block of those candidates that the application picks, durable and proven; None if it picks none."""
        app_hash = self._execute_newest()
        height, time_ns = self.newest.header.height + 1, self._next_time_ns()
        time_ms = time_ns // NANOS_PER_MS
        transactions = tuple(self._writer.prepare(height, time_ms, candidates, self._block_bytes_max))
        if not transactions:
            return None
        self._decide(app_hash, transactions, time_ns, commit=False)
        outcome = self._execute(height, time_ms, transactions)
        self._decide(outcome.app_hash, (), self._next_time_ns(), commit=True)
        return Produced(height, time_ms, transactions, tuple(outcome.results))

    def judge(self, candidates: Sequence[bytes]) -> list[TransactionResult]:
        """What would become of each of `candidates` in the next block, after those before it."""
        self._execute_newest()
        height, time_ns = self.newest.header.height + 1, self._next_time_ns()
        return self._writer.judge(height, time_ns // NANOS_PER_MS, candidates)

    def _next_time_ns(self) -> int:
        return max(self._clock_ms() * NANOS_PER_MS, self.newest.header.time_ns + 1)

    def _execute_newest(self) -> bytes:
        """Execute the empty block of the newest header unless that is done; returns the app hash after it."""
        header = self.newest.header
        if self._writer.executed.height < header.height:
            self._execute(header.height, header.time_ns // NANOS_PER_MS, ())
        return self._writer.executed.app_hash

    def _execute(self, height: int, time_ms: int, transactions: Sequence[bytes]) -> BlockOutcome:
        outcome = self._writer.finalize(height, time_ms, transactions)
        self._results = outcome.results
        return outcome

    def _decide(self, app_hash: bytes, transactions: Sequence[bytes], time_ns: int, *, commit: bool) -> None:
        """Sign and record the next header, for a block of `transactions`."""
        last = self._newest
        header = Header(
            block_version=BLOCK_VERSION,
            app_version=APP_VERSION,
            chain_id=self._chain_id,
            height=1 if last is None else last.header.height + 1,
            time_ns=time_ns,
            last_block_id=NO_BLOCK if last is None else last.commit.block_id,
            last_commit_hash=merkle_root([]) if last is None else commit_hash(last.commit),
            data_hash=data_hash(transactions),
            validators_hash=self._validators_hash,
            next_validators_hash=self._validators_hash,
            consensus_hash=consensus_hash(self._block_bytes_max),
            app_hash=app_hash,
            last_results_hash=results_hash(self._results),
            evidence_hash=merkle_root([]),
            proposer_address=self._validators.validators[0].address,
        )
        signed = SignedHeader(header=header, commit=self._sign(header))
        self._writer.decided(signed, self._validators, commit=commit)
        self._newest = signed

    def _sign(self, header: Header) -> Commit:
        hashed = header_hash(header)
        timestamp_ns = max(self._clock_ms() * NANOS_PER_MS, header.time_ns)
        vote = CommitVote(
            flag=VoteFlag.COMMIT,
            validator_address=self._validators.validators[0].address,
            timestamp_ns=timestamp_ns,
            signature=bytes(64),
        )
        block_id = BlockId(hash=hashed, parts_total=1, parts_hash=hashed)
        unsigned = Commit(height=header.height, round=0, block_id=block_id, votes=(vote,))
        signature = self._key.sign_bytes(vote_sign_bytes(self._chain_id, unsigned, timestamp_ns))
        signed_vote = CommitVote(
            flag=vote.flag,
            validator_address=vote.validator_address,
            timestamp_ns=timestamp_ns,
            signature=signature,
        )
        return Commit(height=header.height, round=0, block_id=block_id, votes=(signed_vote,))


def data_hash(transactions: Sequence[bytes]) -> bytes:
    """Merkle root of the transactions' hashes."""
    return merkle_root([sha256(transaction) for transaction in transactions])


def commit_hash(commit: Commit) -> bytes:
    """Merkle root of the votes, as the next header names it in `last_commit_hash`."""
    return merkle_root(
        [
            varint_field(1, vote.flag)
            + bytes_field(2, vote.validator_address or b"")
            + message_field(3, timestamp(vote.timestamp_ns or 0))
            + bytes_field(4, vote.signature or b"")
            for vote in commit.votes
        ]
    )


def consensus_hash(block_bytes_max: int) -> bytes:
    """Hash of the two parameters that a header binds: a block's size, and no limit of gas."""
    return sha256(varint_field(1, block_bytes_max) + varint_field(2, _NO_GAS_LIMIT))


def results_hash(results: Sequence[TransactionResult]) -> bytes:
    """Merkle root of the results (`result_bytes`), as the next header names it."""
    return merkle_root([result_bytes(result.code, result.item_codes) for result in results])
