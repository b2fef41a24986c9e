"""The genesis in an organisation's directory: installed once all have signed it, and checked again at every start."""

from __future__ import annotations

import json
from collections.abc import Sequence

from onecode.errors import Declined, Misconfigured
from onecode.network.armour import armour, parse_armoured
from onecode.network.ceremony import (
    Ceremony,
    GenesisSignature,
    VerifiedCeremony,
    sign_genesis,
    verify_ceremony,
    verify_signatures,
)
from onecode.network.organisation import MEMBER, Organisation, OrganisationPlaces, load_admission
from onecode.platform.files import save_private
from onecode.platform.keyring import load_key
from onecode.proof.leaves import Role
from onecode.schema import to_plain


def require_hash(ceremony: VerifiedCeremony, said: str) -> None:
    """Raise `Declined` unless `said`, as it was read aloud by others, is the hash that was computed here."""
    if said.replace(" ", "").replace("-", "").lower() != ceremony.genesis_hash.hex():
        raise Declined(
            "ceremony.hash", f"the genesis computed here has the hash {ceremony.genesis_hash.hex()}", field="hash"
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
    if own.admission != load_admission(places, organisation) or own.node.body.peers != organisation.own_peers:  # 2
        raise Declined(
            "ceremony.changed", "the ceremony has another request of yours than your files now give: send it"
        )
    return sign_genesis(ceremony, organisation.platform, load_key(places.role_key(Role.GOVERNANCE)))


def install(
    places: OrganisationPlaces, organisation: Organisation, ceremony: Ceremony, signatures: Sequence[GenesisSignature]
) -> VerifiedCeremony:
    """Keep ceremony and signatures, and write the genesis. Another genesis than the one that is there is refused."""
    verified = verify_ceremony(ceremony)
    if verified.genesis.chain_id != organisation.chain_id:
        raise Declined(
            "ceremony.other_chain", f"the ceremony is for the chain {verified.genesis.chain_id}", field="chain_id"
        )
    verify_signatures(verified, signatures)
    genesis = json.dumps(to_plain(verified.genesis), indent=1).encode() + b"\n"
    if places.genesis.exists() and places.genesis.read_bytes() != genesis:
        raise Declined("ceremony.installed", f"{places.genesis} is another genesis already: use another directory")
    save_private(places.ceremony, armour(ceremony), replace=True)
    places.signatures.mkdir(mode=0o700, exist_ok=True)
    for one in signatures:
        save_private(places.signatures / one.platform.hex(), armour(one), replace=True)
    save_private(places.genesis, genesis, replace=True)
    return verified


def load_founding(places: OrganisationPlaces, organisation: Organisation) -> VerifiedCeremony:
    """The installed ceremony, with the signature of every organisation in it, all checked again."""
    if not places.ceremony.exists():
        raise Misconfigured(
            "organisation.no_genesis", "no genesis is installed here: `onecode network install` first", field="data"
        )
    ceremony = parse_armoured(places.ceremony.read_bytes(), Ceremony)
    found = [parse_armoured(path.read_bytes(), GenesisSignature) for path in sorted(places.signatures.glob("*"))]
    verified = install(places, organisation, ceremony, found)
    own = next(
        (
            one
            for one in verified.organisations
            if organisation.kind == MEMBER and one.platform == organisation.platform
        ),
        None,
    )
    if own is not None and own.admission.root.hex() != organisation.root:
        raise Misconfigured("organisation.root", "the ceremony has another root key of this organisation", field="root")
    return verified
