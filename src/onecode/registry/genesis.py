"""Genesis: what the registry begins with. Every node starts from the same bytes, and the first app hash shows it."""

from __future__ import annotations

import json

from onecode.errors import Malformed
from onecode.proof.governance import (
    ENCLAVE_POLICY_KEY,
    PARAMETERS_KEY,
    RULES_KEY,
    SERVICES_KEY,
    VALIDATORS_KEY,
    Admission,
    EnclavePolicy,
    Measurement,
    Parameters,
    RulesLeaf,
    ServicesLeaf,
    ValidatorLeaf,
    ValidatorsLeaf,
)
from onecode.proof.leaves import SERVICE, TIME_MS
from onecode.proof.map import Section
from onecode.registry.proposals import admit_platform, builds_twice, validators_code
from onecode.registry.state import State
from onecode.schema import ListOf, Message, Nested, Text, Uint, from_plain, item
from onecode.wire import CHAIN_ID_CHARS_MAX, encode

GENESIS_BYTES_MAX = 16 << 20
RULE_VERSION = 1


class Genesis(Message):
    """The first state of a network. Effective times given for measurements are ignored: all is in force at once."""

    chain_id: str = item(1, Text(CHAIN_ID_CHARS_MAX))
    time_ms: int = item(2, TIME_MS)
    parameters: Parameters = item(3, Nested(Parameters))
    platforms: tuple[Admission, ...] = item(4, ListOf(Nested(Admission), 1000, min=1))
    validators: tuple[ValidatorLeaf, ...] = item(5, ListOf(Nested(ValidatorLeaf), 200, min=1))
    services: tuple[str, ...] = item(6, ListOf(SERVICE, 256, min=1))
    measurements: tuple[Measurement, ...] = item(7, ListOf(Nested(Measurement), 64))
    rule_version: int = item(8, Uint(), default=RULE_VERSION)


def parse_genesis(data: bytes) -> Genesis:
    """The genesis in untrusted JSON (the plain form of `Genesis`); `Malformed` names the field. Whether its parts fit
    together is told by `begin`."""
    if len(data) > GENESIS_BYTES_MAX:
        raise Malformed("genesis.too_large", f"a genesis has at most {GENESIS_BYTES_MAX} bytes", status=413)
    try:
        plain = json.loads(data, object_pairs_hook=_no_duplicates)
        genesis = from_plain(Genesis, plain, "genesis")
        genesis.encoded()
    except (ValueError, RecursionError):  # also a text that is not UTF-8, or holds half a surrogate pair
        raise Malformed("genesis.json", "the genesis is no JSON object in UTF-8") from None
    return genesis


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise Malformed("genesis.duplicate", "a name stands twice in an object of the genesis")
    return table


def begin(state: State, genesis: Genesis) -> None:
    """Write the first leaves. Raises `Malformed` naming the field where the parts do not fit together."""
    if genesis.chain_id != state.chain_id:
        raise Malformed("genesis.chain_id", f"the genesis is for chain {genesis.chain_id}", field="genesis.chain_id")
    if genesis.parameters.freeze_platforms == 0 or genesis.parameters.transactions_a_block == 0:
        raise Malformed("genesis.parameters", "freeze_platforms and transactions_a_block are at least 1")
    state.put(Section.GOVERNANCE, PARAMETERS_KEY, genesis.parameters)
    for index, admission in enumerate(genesis.platforms):
        if code := admit_platform(state, admission, 0, genesis.time_ms, genesis.time_ms):
            raise Malformed("genesis.platform", code.meaning, field=f"genesis.platforms[{index}]")
    validators = tuple(sorted(genesis.validators, key=lambda one: one.key))
    if code := validators_code(state, validators):
        raise Malformed("genesis.validators", code.meaning, field="genesis.validators")
    state.put(Section.GOVERNANCE, VALIDATORS_KEY, ValidatorsLeaf(validators=validators, pending=()))
    if len(set(genesis.services)) != len(genesis.services):
        raise Malformed("genesis.services", "a service stands twice", field="genesis.services")
    services = ServicesLeaf(services=tuple(sorted(genesis.services, key=encode)), pending=())
    state.put(Section.GOVERNANCE, SERVICES_KEY, services)
    if builds_twice(genesis.measurements):
        raise Malformed("genesis.measurements", "a build stands twice", field="genesis.measurements")
    measurements = tuple(
        Measurement(kind=one.kind, measurement=one.measurement, effective_ms=genesis.time_ms)
        for one in sorted(genesis.measurements, key=lambda one: (one.kind, one.measurement))
    )
    state.put(Section.GOVERNANCE, ENCLAVE_POLICY_KEY, EnclavePolicy(measurements=measurements, serial=0))
    state.put(Section.GOVERNANCE, RULES_KEY, RulesLeaf(version=genesis.rule_version))
