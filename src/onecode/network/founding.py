"""The genesis in an organisation's directory: installed once all have signed it, and checked again at every start."""

from __future__ import annotations

import json
from collections.abc import Sequence

from onecode.errors import Declined, Misconfigured
from onecode.host.files import save_private
from onecode.host.keyring import load_key
from onecode.network.armour import armour, parse_armoured
from onecode.network.ceremony import (
    Ceremony,
    GenesisSignature,
    VerifiedCeremony,
    sign_genesis,
    verify_ceremony,
    verify_join,
    verify_node,
    verify_signatures,
)
from onecode.network.organisation import OBSERVER, Organisation, OrganisationPlaces, load_admission, make_node_request
from onecode.proof.leaves import Role
from onecode.schema import to_plain


def require_hash(ceremony: VerifiedCeremony, said: str) -> None:
    """Raise `Declined` unless `said`, as it was read aloud by others, is the hash that was computed here."""
    if said.replace(" ", "").replace("-", "").lower() != ceremony.genesis_hash.hex():
        raise Declined(
            "ceremony.hash",
            "that is not the hash of the genesis computed here, so somebody has another ceremony: find out who",
            field="hash",
        )


def sign_ceremony(
    places: OrganisationPlaces, organisation: Organisation, ceremony: VerifiedCeremony, said: str
) -> GenesisSignature:
    """This organisation's signature of the genesis, by its governance key.

    1. The hash is the one that was said. 2. The ceremony holds this organisation as its own files say.
    """
    require_hash(ceremony, said)  # 1
    own = next((one for one in ceremony.organisations if one.platform == organisation.platform), None)
    if own is None:
        raise Declined("ceremony.not_in_it", f"{organisation.name} is not in this ceremony: send the join request")
    now = verify_node(make_node_request(places, organisation), organisation.chain_id)
    if (own.admission, own.node) != (load_admission(places, organisation), now):  # 2
        raise Declined(
            "ceremony.changed", "the ceremony has another request of yours than your files now give: send it"
        )
    return sign_genesis(ceremony, organisation.platform, load_key(places.role_key(Role.GOVERNANCE)))


def install(
    places: OrganisationPlaces,
    organisation: Organisation,
    ceremony: Ceremony,
    signatures: Sequence[GenesisSignature],
    said: str | None = None,
) -> VerifiedCeremony:
    """Keep ceremony and signatures, and write the genesis. Another genesis than the one that is there is refused.

    `said`: the genesis hash as others read it aloud. An organisation that signed the ceremony has compared it already;
    to any other one a ceremony of strangers who all signed looks like the true one, so it needs the hash.
    """
    verified = _verify(organisation, ceremony, signatures)
    if said is not None:
        require_hash(verified, said)
    elif organisation.kind == OBSERVER or all(one.platform != organisation.platform for one in verified.organisations):
        raise Declined(
            "ceremony.hash_needed",
            f"{organisation.name} is not in this ceremony: give the genesis hash as a member reads it aloud (--hash)",
            field="hash",
        )
    _require_genesis(places, verified)
    save_private(places.ceremony, armour(ceremony), replace=True)
    places.signatures.mkdir(mode=0o700, exist_ok=True)
    for one in signatures:
        save_private(places.signatures / one.platform.hex(), armour(one), replace=True)
    _save_genesis(places, verified)
    return verified


def load_founding(places: OrganisationPlaces, organisation: Organisation) -> VerifiedCeremony:
    """The installed ceremony, with the signature of every organisation in it, all checked again."""
    if not places.ceremony.exists():
        raise Misconfigured(
            "organisation.no_genesis", "no genesis is installed here: `onecode network install` first", field="data"
        )
    ceremony = parse_armoured(places.ceremony.read_bytes(), Ceremony)
    files = [places.signatures / verify_join(one).platform.hex() for one in ceremony.requests]
    found = [parse_armoured(path.read_bytes(), GenesisSignature, field=path.name) for path in files if path.exists()]
    verified = _verify(organisation, ceremony, found)
    _require_genesis(places, verified)
    if not places.genesis.exists():  # a further node's directory comes without
        _save_genesis(places, verified)
    return verified


def _verify(organisation: Organisation, ceremony: Ceremony, signatures: Sequence[GenesisSignature]) -> VerifiedCeremony:
    """The ceremony, of this organisation's chain and signed by all that are in it."""
    verified = verify_ceremony(ceremony)
    if verified.genesis.chain_id != organisation.chain_id:
        raise Declined(
            "ceremony.other_chain", f"the ceremony is for the chain {verified.genesis.chain_id}", field="chain_id"
        )
    verify_signatures(verified, signatures)
    return verified


def _genesis_bytes(ceremony: VerifiedCeremony) -> bytes:
    return json.dumps(to_plain(ceremony.genesis), indent=1).encode() + b"\n"


def _require_genesis(places: OrganisationPlaces, ceremony: VerifiedCeremony) -> None:
    """Raise `Declined` where another genesis is there."""
    if places.genesis.exists() and places.genesis.read_bytes() != _genesis_bytes(ceremony):
        raise Declined("ceremony.installed", f"{places.genesis} is another genesis already: use another directory")


def _save_genesis(places: OrganisationPlaces, ceremony: VerifiedCeremony) -> None:
    save_private(places.genesis, _genesis_bytes(ceremony), replace=True)
