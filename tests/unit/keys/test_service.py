"""The key service gives keys to an enclave that it has appraised, and to nobody else: each refusal has its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from chain_world import CHAIN_ID, MEASUREMENT, NOW_MS, VENDOR, World, entropy
from onecode.attest.release import EpochKey, Grant, ReleaseRequest, seal_grant
from onecode.attest.software import SoftwareAttester
from onecode.enclave.core import Enclave, EnclaveSettings
from onecode.enclave.frames import EvidenceRequest
from onecode.errors import OnecodeError, Untrusted
from onecode.proof.governance import EnclavePolicy
from onecode.proof.header import header_hash
from onecode.proof.leaves import KeyState, Role
from onecode.registry.transactions import EnclaveAttest, parse_transaction
from onecode.wire import SigningKey, sha256
from vectors.proof_chain import make_header, signed_by, validator_set


@pytest.fixture
def world() -> World:
    return World()


def test_an_appraised_enclave_gets_the_keys_and_the_chain_is_told(world: World) -> None:
    enclave, update, service = world.enclave(), world.header_update(), world.key_service(world.a)
    enclave.accept_header(update, NOW_MS)
    request = world.release_request(enclave, service, update)
    claims = service.appraise_request(request, world.policy.encoded(), NOW_MS)
    assert claims.simulated and claims.measurement == MEASUREMENT
    grant, transaction = service.make_grant(request, claims, world.a.epoch_keys, NOW_MS)
    _, body, payload = parse_transaction(transaction)
    assert isinstance(payload, EnclaveAttest)
    assert (body.signer, payload.query_key, payload.measurement) == (world.a.id, enclave.query_key, MEASUREMENT)
    enclave.accept_grant(grant, NOW_MS)
    (lease,) = enclave.status().leases
    assert (lease.platform, lease.renew, lease.expires_ms) == (world.a.id, False, NOW_MS + 3_600_000)
    assert world.a.epoch_keys[1] not in grant.encoded()


def appraise(world: World, alter: Callable[[ReleaseRequest], ReleaseRequest], **pins: Any) -> str:
    enclave, update, service = world.enclave(), world.header_update(), world.key_service(world.a, **pins)
    enclave.accept_header(update, NOW_MS)
    request = alter(world.release_request(enclave, service, update))
    with pytest.raises(OnecodeError) as caught:
        service.appraise_request(request, world.policy.encoded(), NOW_MS)
    return caught.value.code


def bind(**changes: Any) -> Callable[[ReleaseRequest], ReleaseRequest]:
    return lambda request: dataclasses.replace(request, bindings=dataclasses.replace(request.bindings, **changes))


def same(request: ReleaseRequest) -> ReleaseRequest:
    return request


def wider(request: ReleaseRequest) -> ReleaseRequest:
    terms = dataclasses.replace(request.terms, header_age_ms_max=3_600_000)
    bindings = dataclasses.replace(request.bindings, config_hash=sha256(terms.encoded()))
    return dataclasses.replace(request, terms=terms, bindings=bindings)


def other_terms(request: ReleaseRequest) -> ReleaseRequest:
    return dataclasses.replace(request, terms=dataclasses.replace(request.terms, query_window_ms=1))


def evidence(**changes: Any) -> Callable[[ReleaseRequest], ReleaseRequest]:
    return lambda request: dataclasses.replace(request, evidence=dataclasses.replace(request.evidence, **changes))


def forged(request: ReleaseRequest) -> ReleaseRequest:
    vendor = SigningKey.from_seed(sha256(b"nobody"))
    made = SoftwareAttester(vendor, MEASUREMENT).evidence(request.evidence.report_data)
    return dataclasses.replace(request, evidence=made)


@pytest.mark.parametrize(
    ("alter", "code"),
    [
        (bind(nonce=b"x" * 32), "keys.nonce"),
        (bind(nonce=(1 << 50).to_bytes(8, "big") + b"x" * 24), "keys.nonce"),
        (bind(key_service_key=b"x" * 32), "keys.other_service"),
        (bind(config_hash=b"x" * 32), "keys.config"),
        (other_terms, "keys.config"),
        (wider, "keys.terms"),
        (bind(header_hash=b"x" * 32), "keys.header"),
        (bind(policy_hash=b"x" * 32), "keys.policy"),
        (bind(release_key=b"x" * 32), "evidence.report_data"),
        (bind(query_key=b"x" * 32), "evidence.report_data"),
        (bind(node_id="node-2"), "evidence.report_data"),
        (evidence(kind="sgx"), "evidence.kind"),
        (evidence(measurement=b"n" * 48), "evidence.signature"),
        (evidence(report_data=b"n" * 64), "evidence.report_data"),
        (evidence(payload=b"n" * 64), "evidence.signature"),
        (forged, "evidence.signature"),
    ],
)
def test_a_request_that_is_not_what_was_attested_gets_nothing(
    world: World, alter: Callable[[ReleaseRequest], ReleaseRequest], code: str
) -> None:
    assert appraise(world, alter) == code


def test_simulated_evidence_needs_the_operators_word(world: World) -> None:
    assert appraise(world, same, allow_simulated=False) == "evidence.simulated"


def test_the_operator_narrows_what_the_chain_allows(world: World) -> None:
    assert appraise(world, same, measurements=frozenset()) == "evidence.pins"


def test_the_chain_narrows_what_the_operator_allows(world: World) -> None:
    world.policy = EnclavePolicy(measurements=(), serial=2)
    assert appraise(world, same) == "evidence.policy"


def test_a_challenge_serves_once_and_in_time(world: World) -> None:
    enclave, update, service = world.enclave(), world.header_update(), world.key_service(world.a)
    enclave.accept_header(update, NOW_MS)
    request = world.release_request(enclave, service, update)
    service.appraise_request(request, world.policy.encoded(), NOW_MS)
    for repeated, now_ms in ((request, NOW_MS), (world.release_request(enclave, service, update), NOW_MS + 60_000)):
        with pytest.raises(Untrusted) as caught:
            service.appraise_request(repeated, world.policy.encoded(), now_ms)
        assert caught.value.code == "keys.nonce"


def test_asking_for_many_challenges_keeps_nobody_out(world: World) -> None:
    enclave, update, service = world.enclave(), world.header_update(), world.key_service(world.a)
    enclave.accept_header(update, NOW_MS)
    assert len({service.make_challenge(NOW_MS)[0] for _ in range(5_000)}) == 5_000
    request = world.release_request(enclave, service, update)
    assert service.appraise_request(request, world.policy.encoded(), NOW_MS).measurement == MEASUREMENT


def test_a_challenge_of_another_service_or_with_a_later_end_is_refused(world: World) -> None:
    enclave, update, service = world.enclave(), world.header_update(), world.key_service(world.a)
    enclave.accept_header(update, NOW_MS)
    nonce, end = service.make_challenge(NOW_MS)
    later = (end + 60_000).to_bytes(8, "big") + nonce[8:]
    foreign, _ = world.key_service(world.b).make_challenge(NOW_MS)
    for forged in (later, foreign):
        asked = EvidenceRequest(platform=world.a.id, nonce=forged, key_service_key=service.public_key)
        reply = enclave.make_evidence(asked, NOW_MS)
        request = ReleaseRequest(
            bindings=reply.bindings,
            evidence=reply.evidence,
            header=update.header,
            validators=update.validators,
            terms=reply.terms,
        )
        with pytest.raises(Untrusted) as caught:
            service.appraise_request(request, world.policy.encoded(), NOW_MS)
        assert caught.value.code == "keys.nonce"


def test_a_trusting_period_beyond_two_weeks_is_refused(world: World) -> None:
    def long(request: ReleaseRequest) -> ReleaseRequest:
        terms = dataclasses.replace(request.terms, trusting_period_ms=14 * 86_400_000 + 1)
        bindings = dataclasses.replace(request.bindings, config_hash=sha256(terms.encoded()))
        return dataclasses.replace(request, terms=terms, bindings=bindings)

    assert appraise(world, long) == "keys.terms"


def test_an_enclave_on_another_chain_gets_nothing(world: World) -> None:
    """The host feeds the enclave another header of a height that the key service has verified."""
    enclave, service = world.enclave(), world.key_service(world.a)
    update = world.header_update()
    enclave.accept_header(update, NOW_MS)
    request = world.release_request(enclave, service, update)
    world.entry_changes = {"consent_serial": 9}
    for height in (update.header.header.height, update.header.header.height + 1):
        service.follower.verify_next(world.header(height), update.validators, NOW_MS)
    with pytest.raises(Untrusted) as caught:
        service.appraise_request(request, world.policy.encoded(), NOW_MS)
    assert caught.value.code == "header.fork"  # by hash, never by height alone


def test_an_enclave_on_a_chain_of_the_hosts_own_validators_gets_nothing(world: World) -> None:
    """With the same chain id, above what the key service has verified and below it."""
    members = validator_set([11, 12, 13, 14])
    service = world.key_service(world.a)
    enclave, update = world.enclave(), world.header_update()
    enclave.accept_header(update, NOW_MS)
    real = update.header.header
    header = make_header(real.height, members, app_hash=real.app_hash, time_ns=real.time_ns)
    signed = signed_by(header, [11, 12, 13, 14], [NOW_MS - 2_000] * 4)
    honest = world.release_request(enclave, service, update)
    bindings = dataclasses.replace(honest.bindings, header_hash=header_hash(header))
    request = dataclasses.replace(honest, bindings=bindings, header=signed, validators=members)
    for newer in (None, real.height + 1):
        if newer is not None:
            service.follower.verify_next(world.header(newer), update.validators, NOW_MS)
        with pytest.raises(Untrusted) as caught:
            service.appraise_request(request, world.policy.encoded(), NOW_MS)
        assert caught.value.code == "header.not_enough_trust"


def test_an_enclave_whose_node_is_a_little_behind_gets_its_keys(world: World) -> None:
    enclave, service = world.enclave(), world.key_service(world.a)
    update = world.header_update()
    enclave.accept_header(update, NOW_MS)
    request = world.release_request(enclave, service, update)
    service.follower.verify_next(world.header(update.header.header.height + 1), update.validators, NOW_MS)
    claims = service.appraise_request(request, world.policy.encoded(), NOW_MS)
    assert claims.measurement == MEASUREMENT


def test_a_grant_is_refused_unless_asked_and_signed_by_the_proven_key_service(world: World) -> None:
    enclave, update, service = world.enclave(), world.header_update(), world.key_service(world.a)
    enclave.accept_header(update, NOW_MS)
    request = world.release_request(enclave, service, update)
    claims = service.appraise_request(request, world.policy.encoded(), NOW_MS)
    grant, _ = service.make_grant(request, claims, world.a.epoch_keys, NOW_MS)
    host = SigningKey.from_seed(sha256(b"host"))
    assert enclave._pending[world.a.id].bindings == request.bindings

    def code(given: Any) -> str:
        with pytest.raises(Untrusted) as caught:
            enclave.accept_grant(given, NOW_MS)
        return caught.value.code

    own = Grant(
        platform=world.a.id,
        epochs=(EpochKey(epoch=1, key=b"h" * 32),),
        expires_ms=NOW_MS + 1000,
        openings=10,
    )
    assert code(seal_grant(CHAIN_ID, own, request.bindings, host)) == "platform.key_unknown"
    assert code(seal_grant(CHAIN_ID, own, request.bindings, world.b.key(Role.KEY_SERVICE))) == "platform.key_unknown"
    assert code(dataclasses.replace(grant, platform=world.b.id)) == "grant.unasked"
    assert code(dataclasses.replace(grant, signature=b"s" * 64)) == "signature.bad"
    other = dataclasses.replace(request.bindings, nonce=b"o" * 32)
    assert code(seal_grant(CHAIN_ID, own, other, world.a.key(Role.KEY_SERVICE))) == "signature.bad"
    long = dataclasses.replace(own, expires_ms=NOW_MS + 3_600_001)
    assert code(seal_grant(CHAIN_ID, long, request.bindings, world.a.key(Role.KEY_SERVICE))) == "grant.lease"
    enclave.accept_grant(grant, NOW_MS)
    assert code(grant) == "grant.unasked"


def test_evidence_is_made_only_for_a_key_service_that_is_on_chain(world: World) -> None:
    enclave = world.enclave()
    asked = EvidenceRequest(platform=world.a.id, nonce=b"n" * 32, key_service_key=b"k" * 32)
    with pytest.raises(Untrusted) as caught:
        enclave.make_evidence(asked, NOW_MS)
    assert caught.value.code == "platform.unknown"
    enclave.accept_header(world.header_update(), NOW_MS)
    with pytest.raises(Untrusted) as caught:
        enclave.make_evidence(asked, NOW_MS)
    assert caught.value.code == "platform.key_unknown"
    keys = tuple(
        dataclasses.replace(key, state=KeyState.REVOKED) if key.role == Role.KEY_SERVICE else key
        for key in world.a.leaf().keys
    )
    world.leaves[world.a.id] = world.a.leaf(keys=keys)
    world.height += 1
    enclave.accept_header(world.header_update(), NOW_MS)
    honest = dataclasses.replace(asked, key_service_key=world.a.key(Role.KEY_SERVICE).public)
    with pytest.raises(Untrusted) as caught:
        enclave.make_evidence(honest, NOW_MS)
    assert caught.value.code == "platform.key_state"


def test_two_enclaves_have_their_own_keys(world: World) -> None:
    settings = EnclaveSettings(CHAIN_ID, "node-1", world.anchor)
    attester = SoftwareAttester(VENDOR, MEASUREMENT)
    keys = {Enclave(settings, attester, entropy(name), NOW_MS).query_key for name in "ab"}
    assert len(keys) == 2
