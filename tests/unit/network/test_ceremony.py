"""The ceremony: what is refused, with which code, and that a signature of every organisation is needed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest

from onecode.errors import Malformed, OnecodeError, Untrusted
from onecode.network.armour import armour, parse_armoured
from onecode.network.ceremony import (
    Ceremony,
    GenesisSignature,
    JoinRequest,
    NodeRequest,
    collect,
    node_id_of,
    sign_join,
    sign_node,
    verify_ceremony,
    verify_join,
    verify_node,
    verify_signatures,
)
from onecode.node.engine_home import node_id
from onecode.proof.leaves import PlatformNode, Role
from onecode.registry.application import Application
from onecode.registry.genesis import parse_genesis
from onecode.registry.store import MemoryStore
from onecode.schema import to_plain
from onecode.wire import sha256
from unit.network.founders import CHAIN_ID, FOUR, TERMS, Founder, founded, named
from unit.registry.world import START_MS

ALDER, BIRCH, CEDAR, DOGWOOD = FOUR
OTHER = Founder("other")


def refused(action: Callable[[], object]) -> OnecodeError:
    with pytest.raises(OnecodeError) as raised:
        action()
    return raised.value


def node_of(**changes: object) -> JoinRequest:
    """Alder's request with another node body, signed by the right keys."""
    return ALDER.request(ALDER.node_request(**changes))


REQUESTS: list[tuple[str, Callable[[], JoinRequest], str]] = [
    (
        "another root's signature",
        lambda: JoinRequest(body=ALDER.request().body, signature=BIRCH.request().signature),
        "signature.bad",
    ),
    ("signed by another root", lambda: sign_join(ALDER.join_body(), BIRCH.root), "signature.bad"),
    (
        "the name changed on the way",
        lambda: JoinRequest(body=ALDER.join_body(name="Adler").encoded(), signature=ALDER.request().signature),
        "signature.bad",
    ),
    (
        "a validator key that the organisation does not hold",
        lambda: ALDER.request(
            sign_node(ALDER.node_body(validator=OTHER.validator.public), ALDER.validator, ALDER.node)
        ),
        "signature.bad",
    ),
    (
        "an engine's node key that it does not hold",
        lambda: ALDER.request(
            sign_node(ALDER.node_body(node=OTHER.node.public), ALDER.validator, ALDER.node),
            nodes=(PlatformNode(node_id=OTHER.node_id, url=ALDER.url),),
        ),
        "signature.bad",
    ),
    (
        "validator's and node's signature exchanged",
        lambda: ALDER.request(_exchanged(ALDER.node_request())),
        "signature.bad",
    ),
    ("another organisation's node", lambda: ALDER.request(BIRCH.node_request()), "ceremony.platform"),
    ("a node that the admission does not name", lambda: ALDER.request(nodes=()), "ceremony.node"),
    ("another address than the admission's", lambda: node_of(url="https://elsewhere.example"), "ceremony.node"),
    ("a node of another chain", lambda: node_of(chain_id="onecode-other"), "ceremony.chain"),
    (
        "one key for validator and engine",
        lambda: ALDER.request(
            sign_node(ALDER.node_body(node=ALDER.validator.public), ALDER.validator, ALDER.validator),
            nodes=(PlatformNode(node_id=node_id_of(ALDER.validator.public), url=ALDER.url),),
        ),
        "ceremony.key_reused",
    ),
    (
        "the root key as the validator's",
        lambda: ALDER.request(sign_node(ALDER.node_body(validator=ALDER.root.public), ALDER.root, ALDER.node)),
        "ceremony.key_reused",
    ),
    ("an address without a node id", lambda: node_of(peers=("alder.example:26656",)), "ceremony.peer"),
    (
        "others sent to a node that is not its own",
        lambda: node_of(peers=(f"{BIRCH.node_id}@alder.example:26656",)),
        "ceremony.node",
    ),
    ("a port that is none", lambda: node_of(peers=(f"{ALDER.node_id}@alder.example:99999",)), "ceremony.peer"),
    ("an address that is no URL", lambda: ALDER.request(url="alder.example"), "ceremony.url"),
    ("an address with a user", lambda: ALDER.request(key_service_url="https://a:b@alder.example"), "ceremony.url"),
    ("an address of another kind", lambda: ALDER.request(url="ftp://alder.example"), "ceremony.url"),
    ("a missing role", lambda: ALDER.request(keys=ALDER.admission().keys[1:]), "genesis.platform"),
]


def _exchanged(node: NodeRequest) -> NodeRequest:
    return dataclasses.replace(node, validator_signature=node.node_signature, node_signature=node.validator_signature)


@pytest.mark.parametrize(("request_of", "code"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS])
def test_a_request_that_lies_is_refused_and_its_file_named(request_of: Callable[[], JoinRequest], code: str) -> None:
    others = named((BIRCH, CEDAR, DOGWOOD))
    error = refused(lambda: collect([*others, ("alder.join", request_of())], TERMS))
    assert error.code == code
    assert error.message.startswith("alder.join: ")


def renamed(**changes: object) -> JoinRequest:
    return BIRCH.request(**changes)  # type: ignore[arg-type]


CONFLICTS: list[tuple[str, Callable[[], JoinRequest], str]] = [
    ("the same organisation twice", ALDER.request, "platform id"),
    ("the same name in other letters", lambda: renamed(name="ALDER"), "name"),
    (
        "the same validator key",
        lambda: BIRCH.request(
            sign_node(BIRCH.node_body(validator=ALDER.validator.public), ALDER.validator, BIRCH.node)
        ),
        "key",
    ),
    (
        "the same address of the engine",
        lambda: BIRCH.request(BIRCH.node_request(peers=(f"{BIRCH.node_id}@Alder.example:26656",))),
        "engine address",
    ),
    ("the same address of the platform", lambda: renamed(url="https://Pay.Alder.example/"), "address"),
    (
        "a node id of the other",
        lambda: renamed(
            nodes=(
                PlatformNode(node_id=BIRCH.node_id, url=BIRCH.url),
                PlatformNode(node_id=ALDER.node_id, url=BIRCH.url),
            )
        ),
        "node id",
    ),
]


@pytest.mark.parametrize(("other", "field"), [row[1:] for row in CONFLICTS], ids=[row[0] for row in CONFLICTS])
def test_two_requests_that_conflict_are_refused_and_both_files_named(
    other: Callable[[], JoinRequest], field: str
) -> None:
    error = refused(lambda: collect([("alder.join", ALDER.request()), ("second.join", other())], TERMS))
    assert (error.code, error.field) == ("ceremony.conflict", field)
    assert "alder.join" in error.message and "second.join" in error.message


def test_a_request_of_another_chain_is_refused() -> None:
    body = dataclasses.replace(ALDER.join_body(), chain_id="onecode-other")
    assert refused(lambda: collect([("a", sign_join(body, ALDER.root))], TERMS)).code == "ceremony.chain"


def test_the_genesis_begins_a_registry_with_all_of_them() -> None:
    verified = verify_ceremony(founded())
    genesis = verified.genesis
    assert verified.genesis_hash == sha256(genesis.encoded())
    assert {one.admission.name for one in verified.organisations} == {one.name for one in FOUR}
    assert {(one.key, one.platform, one.power) for one in genesis.validators} == {
        (one.validator.public, one.id, 10) for one in FOUR
    }
    assert {one.node_id for join in verified.organisations for one in join.admission.nodes} == {
        node_id(one.node) for one in FOUR
    }
    Application(MemoryStore(), CHAIN_ID).init_chain(genesis)

    assert parse_genesis(json.dumps(to_plain(genesis)).encode()) == genesis


def swapped(ceremony: Ceremony) -> Ceremony:
    first, second, *rest = ceremony.requests
    return dataclasses.replace(ceremony, requests=(second, first, *rest))


TERMS_CHANGED: list[tuple[Callable[[Ceremony], Ceremony], str]] = [
    (swapped, "ceremony.order"),
    (lambda one: dataclasses.replace(one, requests=(one.requests[0], *one.requests)), "ceremony.conflict"),
    (lambda one: dataclasses.replace(one, chain_id="onecode-other"), "ceremony.chain"),
    (lambda one: dataclasses.replace(one, power=0), "genesis.validators"),
    (lambda one: dataclasses.replace(one, services=("pay", "pay")), "genesis.services"),
    (lambda one: dataclasses.replace(one, time_ms=START_MS + 90 * 86_400_000), "genesis.platform"),
]


@pytest.mark.parametrize(("change", "code"), TERMS_CHANGED)
def test_a_ceremony_that_does_not_hold_is_refused(change: Callable[[Ceremony], Ceremony], code: str) -> None:
    assert refused(lambda: verify_ceremony(change(founded()))).code == code


@pytest.mark.parametrize(
    "change",
    [
        lambda one: dataclasses.replace(one, time_ms=one.time_ms + 1),
        lambda one: dataclasses.replace(one, power=11),
        lambda one: dataclasses.replace(one, services=("pay", "tip")),
        lambda one: dataclasses.replace(one, measurements=()),
        lambda one: dataclasses.replace(one, parameters=dataclasses.replace(one.parameters, governance_delay_ms=1)),
        lambda one: dataclasses.replace(one, requests=one.requests[1:]),
    ],
)
def test_whatever_is_changed_changes_the_hash_so_no_signature_fits(change: Callable[[Ceremony], Ceremony]) -> None:
    true = verify_ceremony(founded())
    changed = verify_ceremony(change(founded()))
    assert changed.genesis_hash != true.genesis_hash
    signatures = [one.word(true) for one in FOUR]
    assert refused(lambda: verify_signatures(changed, signatures)).code == "ceremony.other_genesis"


def test_every_organisation_must_sign() -> None:
    ceremony = verify_ceremony(founded())
    words = [one.word(ceremony) for one in FOUR]
    verify_signatures(ceremony, words)
    verify_signatures(ceremony, [ALDER.word(ceremony, ALDER.root), *words[1:]])
    error = refused(lambda: verify_signatures(ceremony, [words[0], words[2]]))
    assert error.code == "ceremony.unsigned"
    assert "birch" in error.message and "dogwood" in error.message and "alder" not in error.message


def wrong_words() -> list[tuple[str, Callable[[], GenesisSignature]]]:
    ceremony = verify_ceremony(founded())
    word = ALDER.word(ceremony)
    return [
        ("ceremony.stranger", lambda: OTHER.word(ceremony)),
        ("ceremony.signer", lambda: ALDER.word(ceremony, ALDER.keys[Role.TRANSACTION])),
        ("ceremony.signer", lambda: dataclasses.replace(BIRCH.word(ceremony), platform=ALDER.id)),
        ("signature.bad", lambda: dataclasses.replace(word, signature=BIRCH.word(ceremony).signature)),
        ("ceremony.other_genesis", lambda: dataclasses.replace(word, genesis_hash=bytes(32))),
        ("ceremony.other_genesis", lambda: dataclasses.replace(word, chain_id="onecode-other")),
    ]


@pytest.mark.parametrize(("code", "word"), wrong_words())
def test_a_word_for_the_genesis_that_is_not_its_organisations_is_refused(
    code: str, word: Callable[[], GenesisSignature]
) -> None:
    ceremony = verify_ceremony(founded())
    words = [one.word(ceremony) for one in FOUR]
    assert refused(lambda: verify_signatures(ceremony, [*words, word()])).code == code


def test_a_nodes_request_stands_by_itself() -> None:
    assert verify_node(ALDER.node_request(), CHAIN_ID).node_id == ALDER.node_id
    assert refused(lambda: verify_node(ALDER.node_request(), "onecode-other")).code == "ceremony.chain"
    assert verify_join(ALDER.request()).platform == ALDER.id


def test_files_say_what_they_are() -> None:
    request, ceremony = ALDER.request(), founded()
    text = armour(request)
    assert text.startswith(b"-----BEGIN ONECODE JOIN REQUEST-----\n")
    assert parse_armoured(text, JoinRequest) == request
    assert parse_armoured(text.replace(b"\n", b"\r\n"), JoinRequest, Ceremony) == request
    assert parse_armoured(armour(ceremony), JoinRequest, Ceremony) == ceremony
    with pytest.raises(Malformed, match="no ceremony but a join request") as raised:
        parse_armoured(text, Ceremony)
    assert raised.value.code == "ceremony.kind"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "ceremony.kind"),
        (b"\xff\xfe", "ceremony.kind"),
        (b"-----BEGIN ONECODE JOIN REQUEST-----\nAAAA", "ceremony.kind"),
        (b"-----BEGIN ONECODE JOIN REQUEST-----\nA*A=\n-----END ONECODE JOIN REQUEST-----", "ceremony.base64"),
        (b"-----BEGIN ONECODE JOIN REQUEST-----\nAAAA\n-----END ONECODE JOIN REQUEST-----", "wire.trailing"),
        (b"x" * (2 << 20) + b"x", "ceremony.too_large"),
    ],
)
def test_what_is_no_file_of_a_ceremony_is_refused(data: bytes, code: str) -> None:
    assert refused(lambda: parse_armoured(data, JoinRequest)).code == code


def test_the_name_of_the_file_is_in_what_it_lacks() -> None:
    broken = JoinRequest(body=b"\xa0", signature=bytes(64))
    error = refused(lambda: collect([("mail.txt", broken)], TERMS))
    assert isinstance(error, Malformed) and error.message.startswith("mail.txt: ")
    assert isinstance(refused(lambda: verify_join(ALDER.request(), "onecode-other")), Untrusted)
