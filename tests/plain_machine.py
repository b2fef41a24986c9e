"""A small application over the real map and store, for tests of what drives an application.

A transaction is `key=value`: it sets a key that is not set; else it gives `TAKEN`. `!…` is admitted and fails.
`~key=value` is left out by `prepare` while more than `QUOTA` of its kind are in the block.
"""

from __future__ import annotations

from collections.abc import Sequence

from onecode.proof.map import Section, app_hash
from onecode.registry.application import BlockOutcome, TransactionResult
from onecode.registry.map import load, section_roots, update
from onecode.registry.results import Result
from onecode.registry.store import Writer

TAKEN, MALFORMED, FAILED = Result.NONCE, Result.MALFORMED, Result.VERSION
QUOTA = 2


class PlainMachine:
    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def init_chain(self, genesis: dict[bytes, bytes]) -> bytes:
        update(self.writer, Section.ALIASES, dict(genesis))
        return app_hash(section_roots(self.writer))

    def rolled_back(self, height: int) -> None:
        """Nothing is remembered beside the store."""

    def _run(self, transactions: Sequence[bytes]) -> tuple[list[TransactionResult], dict[bytes, bytes | None]]:
        changes: dict[bytes, bytes | None] = {}
        results: list[TransactionResult] = []
        for transaction in transactions:
            key, equals, value = transaction.partition(b"=")
            code = Result.OK
            if transaction.startswith(b"!"):
                code = FAILED
            elif not equals:
                code = MALFORMED
            elif key in changes or load(self.writer, Section.ALIASES, key) is not None:
                code = TAKEN
            else:
                changes[key] = value
            results.append(TransactionResult(code))
        return results, changes

    def execute(self, height: int, time_ms: int, transactions: Sequence[bytes]) -> BlockOutcome:
        results, changes = self._run(transactions)
        if changes:
            update(self.writer, Section.ALIASES, changes)
        return BlockOutcome(tuple(results), app_hash(section_roots(self.writer)), ())

    def check(self, transaction: bytes, time_ms: int, *, recheck: bool = False) -> Result:
        return self._run([transaction])[0][0].code

    def judge(self, height: int, time_ms: int, candidates: Sequence[bytes]) -> list[TransactionResult]:
        return self._run(candidates)[0]

    def prepare(self, height: int, time_ms: int, candidates: Sequence[bytes], bytes_max: int) -> list[bytes]:
        results, _ = self._run(candidates)
        kept = [tx for tx, result in zip(candidates, results, strict=True) if result.code in (0, FAILED)]
        quota = [tx for tx in kept if tx.startswith(b"~")][QUOTA:]
        return [tx for tx in kept if tx not in quota]
