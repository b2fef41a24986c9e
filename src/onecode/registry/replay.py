"""An independent audit of the rules: the transactions of a span from genesis on, executed again and compared.

docs/spec/audit.md, "Replay". The headers and the bytes of the transactions are verified before (`registry/span.py`).
"""

from __future__ import annotations

from onecode.errors import Untrusted
from onecode.proof.header import Validator, ValidatorSet, validators_hash
from onecode.proof.light import NANOS_PER_MILLI
from onecode.proof.trust import SOLO_PREFIX
from onecode.registry.application import Application
from onecode.registry.genesis import Genesis
from onecode.registry.span import VerifiedFrame
from onecode.registry.state import Committed, State
from onecode.registry.store import MemoryStore, Writer


class Replay:
    """One registry from its genesis. `execute` the frames in their order, then `require_state` of the end."""

    def __init__(self, writer: Writer, genesis: Genesis) -> None:
        """`writer`: an empty store. Raises `Malformed` where the genesis does not fit together."""
        self._writer = writer
        self._genesis = genesis
        self._application = Application(writer, genesis.chain_id)
        self._app_hash = self._application.init_chain(genesis)

    def execute(self, frame: VerifiedFrame) -> None:
        """The block of the frame, after the state before it was compared. Raises `Untrusted` where they differ."""
        self.require_state(frame)
        header = frame.signed.header
        outcome = self._application.execute(header.height, header.time_ns // NANOS_PER_MILLI, frame.transactions)
        for index, (done, said) in enumerate(zip(outcome.results, frame.results, strict=True)):
            if (done.code, done.item_codes) != (said.code, said.item_codes):
                raise Untrusted(
                    "audit.replay_result",
                    f"height {header.height}, replay: by the rules transaction {index} gives {done.code.name.lower()}",
                    field=f"results[{index}]",
                )
        self._app_hash = outcome.app_hash

    def require_state(self, frame: VerifiedFrame) -> None:
        """The state that was computed is the one that this header signs, and so are the validators after it."""
        header = frame.signed.header
        if header.app_hash != self._app_hash:
            raise Untrusted(
                "audit.replay_state",
                f"height {header.height}, replay: by the rules the state before it is another",
                field="header.app_hash",
            )
        if header.chain_id.startswith(SOLO_PREFIX):  # its one validator is not governed
            return
        if header.next_validators_hash != validators_hash(self._validators()):
            raise Untrusted(
                "audit.replay_validators",
                f"height {header.height}, replay: governance decided other validators than those announced",
                field="header.next_validators_hash",
            )

    def _validators(self) -> ValidatorSet:
        leaf = State(Committed(self._writer, self._genesis.chain_id)).validators()
        return _ordered([Validator(public_key=one.key, power=one.power) for one in leaf.validators])


def _ordered(validators: list[Validator]) -> ValidatorSet:
    """In the engine's order: power descending, then address."""
    return ValidatorSet(validators=tuple(sorted(validators, key=lambda one: (-one.power, one.address))))


def genesis_anchor(genesis: Genesis) -> tuple[bytes, bytes]:
    """What the first header must hold: the hash of its validators, and the app hash of the first state."""
    first = _ordered([Validator(public_key=one.key, power=one.power) for one in genesis.validators])
    return validators_hash(first), Application(MemoryStore(), genesis.chain_id).init_chain(genesis)
