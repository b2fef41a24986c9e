"""What a rule gets beside its payload."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from onecode.proof.leaves import MerchantEntry
from onecode.registry.events import Event
from onecode.registry.results import Result
from onecode.registry.signatures import Signatures
from onecode.registry.state import State
from onecode.registry.transactions import SignerKind
from onecode.wire import Domain, frame


@dataclass(slots=True)
class Context:
    """One admitted transaction in execution. A rule returns the first code that fails; `OK` only after its writes.

    signer: platform or merchant id; `signer_kind` and `key`: of the key whose nonce was used.
    height, time_ms: of the block.
    """

    state: State
    signatures: Signatures
    height: int
    time_ms: int
    signer: bytes
    signer_kind: SignerKind
    key: bytes
    item_codes: list[Result] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def signed(self, key: bytes, signature: bytes, domain: Domain, body: bytes) -> bool:
        """Whether `signature` over the frame of `body` holds for `key`."""
        return self.signatures.holds(key, signature, frame(domain, self.state.chain_id, body))

    def possessed(self, key: bytes, possession: bytes) -> bool:
        """Whether `possession` proves that the signer's new `key` is held by whoever asks for it."""
        return self.signed(key, possession, Domain.POSSESSION, self.signer + key)

    def own_entry(self) -> MerchantEntry:
        """The signing merchant's entry, settled; admission found it."""
        entry = self.state.merchant(self.signer, self.time_ms)
        if entry is None:
            raise RuntimeError("admission lets no merchant pass that has no entry")
        return entry

    def change_entry(self, **changes: object) -> None:
        """Write the signing merchant's entry with `changes`."""
        self.state.put_merchant(self.signer, dataclasses.replace(self.own_entry(), **changes))  # type: ignore[arg-type]
